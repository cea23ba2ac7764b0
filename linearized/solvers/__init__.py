"""Registries of the solvers by name: `SOLVERS` for models, `GRAM_SOLVERS` for kernel ridge regression.

The solvers are linear solvers, which solve for a whole grid of ridges at once, and training loops. `SOLVER_READS` and
`GRAM_SOLVER_READS` list the settings of the command line that each solver reads. The settings are declared here and not
in the modules of the solvers, because those import SciPy or Keras, which `--help` does not need.
"""

from collections.abc import Mapping

from linearized.base.registry import Registry
from linearized.settings.reads import When, reads
from linearized.solvers.linear.solution import LinearProblem, basis_bytes, basis_room

Line = tuple[str, Mapping[str, When]]


def _tables(lines: Mapping[str, Line], aliases: Mapping[str, str]) -> tuple[Registry, dict[str, Mapping[str, When]]]:
    """Split a table of solvers into a registry of their modules and a dictionary of the settings that they read.

    Args:
        lines: Dictionary from the name of a solver to the path of its module and the settings that it reads.
        aliases: Dictionary from other names to the names of solvers.

    Returns:
        The registry, and a dictionary from the name of a solver to its settings.
    """
    paths = {name: path for name, (path, _) in lines.items()}
    return Registry("solver", paths, aliases), {name: names for name, (_, names) in lines.items()}


_LEAST_SQUARES = reads("cg_rtol", "cg_atol", "max_cg_iters", "memory", "checkpoint_seconds")
_GRADIENT = reads(
    "learning_rate", "max_cg_iters", "max_ncg_iters", "max_batch_size", "schedule", "warm_up_epochs",
    "label_smoothing", "augment_crop", "augment_flip", "mixed_precision", "tensorboard", "seed", "checkpoint_seconds",
    "tangent_at", "tangent_rows", "backend",
)  # fmt: skip

SOLVERS, SOLVER_READS = _tables(
    {
        "lanczos": ("linearized.solvers.linear.block_lanczos", _LEAST_SQUARES),
        "cg": ("linearized.solvers.linear.cg", _LEAST_SQUARES),
        "band": ("linearized.solvers.linear.formed", _LEAST_SQUARES),
        "sgd": ("linearized.solvers.training.sgd", _GRADIENT | reads("momentum", "l2_decay")),
        "adam": ("linearized.solvers.training.sgd", _GRADIENT | reads("beta_2", "l2_decay")),
        "adamw": ("linearized.solvers.training.sgd", _GRADIENT | reads("beta_2", "weight_decay")),
        "newton_cg": (
            "linearized.solvers.training.newton_cg",
            reads("max_ncg_iters", "max_batch_size", "checkpoint_seconds"),
        ),
    },
    aliases={"block_lanczos": "lanczos"},
)

_GRAM = reads("rtol", "max_iterations", "memory", "checkpoint_seconds")

# Solvers of kernel ridge regression, (K + ρI)α = Y, for a GramProblem and a grid of ridges.
GRAM_SOLVERS, GRAM_SOLVER_READS = _tables(
    {
        "askotch": (
            "linearized.solvers.linear.askotch",
            _GRAM | reads("block_rows", "preconditioner_rank", "on_the_fly"),
        ),
        "band": ("linearized.solvers.linear.band.solver", _GRAM),
        "block_lanczos": ("linearized.solvers.linear.block_lanczos", _GRAM | reads("scheduler", "on_the_fly")),
        "cg": ("linearized.solvers.linear.cg", _GRAM | reads("scheduler", "on_the_fly")),
        "cholesky": ("linearized.solvers.linear.cholesky", _GRAM),
        "eigh": ("linearized.solvers.linear.eigh", _GRAM),
        "rpcholesky": ("linearized.solvers.linear.rpcholesky", _GRAM | reads("preconditioner_rank", "on_the_fly")),
    },
    aliases={"lanczos": "block_lanczos"},
)

AUTO_GRAM = ("band", "block_lanczos", "cholesky")  # solvers of K that `auto_gram` chooses from
WORKING_COPIES = 1.7  # memory for a factor of K and its refinement, in units of the size of K
FEW_RIDGES = 2  # largest number of ridges for which one factor per ridge is faster than one reduction for all

LINEAR = ("lanczos", "cg")  # solvers that need only the products of a LinearProblem, for a whole ridge grid
LEAST_SQUARES = (*LINEAR, "band")  # `band` requires a problem that can form its Gram matrix


def auto(problem: LinearProblem, num_ridges: int) -> tuple[str, str]:
    """Choose between block Lanczos and CG for a least-squares problem; return the solver's name and a one-line reason.

    Block Lanczos needs the fewest products. In a dual problem, where solvers work with A Aᵀ, it also loses no accuracy
    at small ridges by float32 products. CG is chosen if the basis that block Lanczos stores (see `basis_bytes`) fits
    neither in the spare memory of the problem nor in 256 MiB. CG stores only two vectors per ridge and label column.

    Args:
        problem: Problem to solve, min ‖A v - Y‖² + ρ‖v‖².
        num_ridges: Number of ridges in the grid; it appears only in the reason.
    """
    basis, room = basis_bytes(problem, problem.columns), basis_room(problem)
    space = "dual" if problem.dual else "primal"
    if basis <= room:
        return "lanczos", f"a basis of about {basis / 1e9:.2g} GB in the {space} serves {num_ridges} ridges at once"
    return "cg", f"a Lanczos basis of about {basis / 1e9:.2g} GB is more than the {room / 1e9:.2g} GB left"


def auto_gram(n: int, itemsize: int, num_ridges: int, memory: int, *, distributed: bool = False) -> tuple[str, str]:
    """Choose a solver of kernel ridge regression for a Gram matrix K; return the solver's name and a one-line reason.

    The choice is block Lanczos if products are distributed or a factor of K does not fit in memory. Otherwise it is
    "cholesky" for one or two ridges, and "band" for more.

    Args:
        n: Number of rows of K.
        itemsize: Bytes per entry of K.
        num_ridges: Number of ridges in the grid.
        memory: Available memory in bytes.
        distributed: Whether the products run on the workers of a scheduler.
    """
    gib = WORKING_COPIES * n * n * itemsize / 2**30
    if distributed:
        return "block_lanczos", f"products on the scheduler's workers serve {num_ridges} ridges at once"
    if gib * 2**30 > memory:
        return "block_lanczos", f"a factor of K takes {gib:.1f} GiB, and {memory / 2**30:.1f} GiB are to work with"
    if num_ridges <= FEW_RIDGES:
        return "cholesky", f"{num_ridges} of a ridge's factors take less than one reduction, in {gib:.1f} GiB"
    return "band", f"one reduction of K, in {gib:.1f} GiB, serves {num_ridges} ridges"
