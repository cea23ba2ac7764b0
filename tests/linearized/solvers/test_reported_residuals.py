"""Reported residuals and errors of Gram matrices hold against float64 references."""

import numpy as np
import pytest

from linearized.problems import GramProblem
from linearized.solvers.linear import block_lanczos, cg, cholesky, eigh
from linearized.solvers.linear.band import solver as band
from linearized.solvers.linear.refinement import STORAGE

TOLERANCES = (1e-2, 1e-3, 3e-4, 1e-5, 1e-7)
SOLVERS = {"cg": cg, "block_lanczos": block_lanczos, "band": band, "cholesky": cholesky, "eigh": eigh}


def gram_of(condition, n=80, columns=2):
    """Return a float32 Gram matrix of norm 1 with eigenvalues evenly spaced in the logarithm, and labels."""
    random = np.random.default_rng(0)
    vectors, _ = np.linalg.qr(random.standard_normal((n, n)))
    gram = (vectors * np.logspace(0, -np.log10(condition), n)) @ vectors.T
    return ((gram + gram.T) / 2).astype(np.float32), random.standard_normal((n, columns))


@pytest.mark.parametrize("budget", [30, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("condition", [1e4, 1e8])
@pytest.mark.parametrize("name", SOLVERS)
def test_residuals_of_gram_matrices_are_true_and_errors_within_them(name, condition, budget):
    gram, targets = gram_of(condition)
    exact, ridges = gram.astype(np.float64), [1e-8, 1e-6, 1e-4]
    values, vectors = np.linalg.eigh(exact)
    for rtol in TOLERANCES:
        problem = GramProblem(gram.copy(), targets)
        solutions = SOLVERS[name].solve(problem, ridges, rtol=rtol, atol=0.0, max_iterations=budget)
        for i, solution in enumerate(solutions):
            missing = targets - exact @ solution.value - ridges[i] * solution.value
            residual = np.linalg.norm(missing) / np.linalg.norm(targets)
            assert solution.residual == pytest.approx(residual, rel=1e-2, abs=1e-8)
            assert not solution.converged or residual <= 1.1 * rtol + 1e-8
            expected = (vectors * (values / (values + ridges[i]))) @ (vectors.T @ targets)
            error = np.linalg.norm(solution.predictions - expected) / np.linalg.norm(targets)
            assert error <= 1.01 * residual + 1e-7


def test_predictions_of_a_gram_matrix_stored_in_float32_at_the_least_ridge():
    """At a ridge of STORAGE ‖K‖, rounding K to float32 changes predictions by a few per cent of the labels."""
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 8))
    exact = np.exp(-((x[:, None] - x) ** 2).sum(-1) / 32)
    rounded, targets = exact.astype(np.float32).astype(np.float64), np.sin(x[:, :1])
    for times, most in ((1.0, 0.05), (100.0, 5e-4)):
        ridge = times * STORAGE * np.linalg.norm(exact)
        one, other = (k @ np.linalg.solve(k + ridge * np.eye(400), targets) for k in (exact, rounded))
        assert 0 < np.linalg.norm(one - other) / np.linalg.norm(targets) < most
