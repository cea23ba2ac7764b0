"""Which linear solver `auto` takes, and what it says."""

import numpy as np
import pytest

from linearized.problems import MatrixProblem
from linearized.solvers import LINEAR, auto


@pytest.mark.parametrize(("shape", "space"), [((300, 400), "dual"), ((400, 300), "primal")])
def test_lanczos_where_its_basis_fits_else_cg(shape, space, monkeypatch):
    monkeypatch.setattr("linearized.solvers.linear.solution.LEAST_BASIS", 0)
    problem = MatrixProblem(np.ones(shape), np.ones((shape[0], 1)))
    needed = 8 * 300 * 250
    problem.memory = needed
    name, reason = auto(problem, 20)
    assert name == "lanczos" and space in reason and "20 ridges" in reason
    problem.memory = needed - 1
    name, reason = auto(problem, 20)
    assert name == "cg" and "more than" in reason
    assert name in LINEAR
