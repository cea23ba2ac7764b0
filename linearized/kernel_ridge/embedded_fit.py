"""Ridge regression on explicit features, such as an embedding of a kernel, at every ridge of a path."""

from collections.abc import Sequence

import numpy as np

from linearized.base.array_checks import real_array
from linearized.base.errors import UserError
from linearized.base.keywords import suggests_keywords
from linearized.kernel_ridge.ridge_path import RidgePath, checked_labels, checked_path
from linearized.problems import embedding_problem as problem
from linearized.problems.weighted_problem import checked_weights
from linearized.solvers import GRAM_SOLVERS
from linearized.solvers.linear.driver import UNWATCHED, Watch

RTOL = 1e-7  # default relative residual


@suggests_keywords
def fit_embedding(
    rows: problem.FeatureRows | np.ndarray, y: np.ndarray, ridges: Sequence[float] | np.ndarray, *,
    solver: str = "auto", rtol: float | None = None, max_iterations: int = 750, watch: Watch = UNWATCHED,
    sample_weight: np.ndarray | float | None = None,
) -> RidgePath:  # fmt: skip
    """Fit ridge regression on features Φ: minimise ‖Φw - y‖² + ρ‖w‖² over w at every ridge ρ.

    It reads Φ twice, and by default all ridges share one factorisation of ΦᵀΦ (m, m).

    Args:
        rows: Features Φ (n, m) of the n train rows: an array, or a `linearized.storage.embeddings.FeatureMatrix`, which
            reads them from shards.
        y: Labels (n,) or (n, k), which are not centred here.
        ridges: ρ, at least 0; not divided by n. It has the unit of kernel ridge regression with K = ΦΦᵀ.
        solver: Solver of `linearized.solvers.GRAM_SOLVERS` for the normal equations; "auto" uses band.
        rtol: Relative residual ‖Φᵀy - (ΦᵀΦ + ρI)w‖/‖Φᵀy‖ to reach; None: 1e-7.
        max_iterations: Largest number of refinement steps for each ridge; for block_lanczos and cg, of products.
        watch: Progress and checkpoints of a long run.
        sample_weight: Weights s_i, at least 0, one for each row, or one number for all: Σ_i s_i ‖φ_i w - y_i‖² + ρ‖w‖²
            is minimised for the features φ_i of row i, as in scikit-learn's Ridge. None: 1.

    Returns:
        Path whose `alpha` are the weights w (ridges, m, k); `path.predict` of the features of test rows returns
        predictions.

    Raises:
        UserError: For features, labels, ridges or weights of other shapes, or that are not finite.

    Example:
        >>> import numpy as np
        >>> import linearized
        >>> rng = np.random.default_rng(0)
        >>> features, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 1))
        >>> path = linearized.fit_embedding(features, y, [2.0])
        >>> np.allclose(path.alpha[0], np.linalg.solve(features.T @ features + 2 * np.eye(6), features.T @ y))
        True
    """
    targets, ridges = checked_labels(y), checked_path(ridges)
    rows = rows if isinstance(rows, problem.FeatureRows) and not isinstance(rows, np.ndarray) else _rows(rows)
    name, reason = (GRAM_SOLVERS.canonical(solver), "as asked") if solver != "auto" else (
        "band", f"one reduction of the {rows.shape[1]} x {rows.shape[1]} normal equations serves every ridge"
    )  # fmt: skip
    solutions = problem.solve(
        rows, targets, ridges, solver=name, rtol=rtol or RTOL, max_iterations=max_iterations, watch=watch,
        weights=None if sample_weight is None else checked_weights(sample_weight, len(targets)),
    )  # fmt: skip
    alpha = np.stack([solution.value for solution in solutions])
    return RidgePath(ridges, alpha, solutions, name, reason, rtol or RTOL)


def _rows(features: np.ndarray) -> problem.ArrayRows:
    """Wrap an array of features (n, m) for `problem.solve`, which multiplies it in blocks of rows.

    Raises:
        UserError: Unless the array is a real matrix with at least one column.
    """
    features = real_array(features, "Features")
    if features.ndim != 2 or not features.shape[1]:
        raise UserError(f"Features must be rows (n, m) with m at least 1. Received: shape {features.shape}.")
    return problem.ArrayRows(features if features.dtype.kind == "f" else features.astype(np.float64))
