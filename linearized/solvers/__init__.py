"""Finds the parameters: linear solvers for a whole grid of ridges, and the training loops."""

from data.registry import Registry
from linearized.solvers.solution import LinearProblem, basis_bytes, basis_room

SOLVERS = Registry(
    "solver",
    {
        "lanczos": "linearized.solvers.block_lanczos",
        "cg": "linearized.solvers.cg",
        "sgd": "linearized.solvers.sgd",
        "adam": "linearized.solvers.sgd",
        "newton_cg": "linearized.solvers.newton_cg",
    },
    aliases={"block_lanczos": "lanczos"},
)

GRAM_SOLVERS = Registry(  # of kernel ridge regression, (K + ρI)α = Y: a GramProblem and a grid of ridges
    "solver",
    {
        "band": "linearized.solvers.band",
        "block_lanczos": "linearized.solvers.block_lanczos",
        "cg": "linearized.solvers.cg",
        "cholesky": "linearized.solvers.cholesky",
        "eigh": "linearized.solvers.eigh",
    },
    aliases={"lanczos": "block_lanczos"},
)

LINEAR = ("lanczos", "cg")  # those that solve a LinearProblem, for a whole ridge grid


def auto(problem: LinearProblem, num_ridges: int) -> tuple[str, str]:
    """The linear solver to take, and why in one line.

    Block Lanczos needs the fewest products and, in the dual, loses nothing to small ridges in float32. Where its basis
    (see `basis_bytes`) does not fit the memory left, CG does with two vectors of p · columns numbers a ridge.
    """
    basis, room = basis_bytes(problem, problem.columns), basis_room(problem)
    space = "dual" if problem.dual else "primal"
    if basis <= room:
        return "lanczos", f"a basis of about {basis / 1e9:.2g} GB in the {space} serves {num_ridges} ridges at once"
    return "cg", f"a Lanczos basis of about {basis / 1e9:.2g} GB is more than the {room / 1e9:.2g} GB left"
