"""Cholesky factorisation of banded matrices B + ρI, solutions of systems with them, and the trace of their inverse.

A matrix of half-width b has entries only on the main diagonal and the b diagonals on each side of it. It is symmetric
and stored as in LAPACK, as an array (b+1, n) whose row i is the i-th diagonal below the main one. BLAS runs on one
thread, because its blocks have only 32 to 96 rows. For such blocks, two threads take 1.5 to 2.3 times as long as one,
and far longer when other programs keep the cores busy.
"""

import numpy as np
import scipy.linalg

from linearized.base.blocks import blas_threads
from linearized.base.shapes import Float64


def factor(band: Float64[np.ndarray, "b_and_1 n"], ridge: float) -> Float64[np.ndarray, "b_and_1 n"] | None:
    """Return the Cholesky factor L of B + ρI = L Lᵀ, in n · b² operations; None if B + ρI is not positive definite.

    Args:
        band: B, stored so that row i is the i-th diagonal below the main one. L is returned in the same form.
        ridge: ρ.
    """
    shifted = band.copy()
    shifted[0] += ridge
    try:
        with blas_threads(1):
            return scipy.linalg.cholesky_banded(shifted, overwrite_ab=True, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None


def solve(factor: Float64[np.ndarray, "b_and_1 n"], y: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
    """Return (B + ρI)⁻¹ y, in 4 n · b operations per column.

    Args:
        factor: Cholesky factor L of B + ρI = L Lᵀ, as the function `factor` returns it.
        y: Right-hand sides, c columns.
    """
    with blas_threads(1):
        return scipy.linalg.cho_solve_banded((factor, True), y, check_finite=False)


def inverse_trace(factor: Float64[np.ndarray, "b_and_1 n"]) -> float:
    """Return tr (L Lᵀ)⁻¹ by selected inversion, in 10 n · b² operations; the eigenvalues of B would take 6 n² · b.

    In blocks of b, L has triangles D_j on the diagonal and E_j below them. The diagonal blocks of the inverse are

        Z_j = D_j⁻ᵀD_j⁻¹ + G_jᵀ Z_{j+1} G_j,    G_j = E_j D_j⁻¹,

    computed from the last block backwards. Z_j is a sum of positive semi-definite terms, so nothing cancels.
    (Takahashi, Fagan & Chin, 1973; Erisman & Tinney, Commun. ACM 18, 1975.)

    Args:
        factor: Banded triangle L, from the function `factor`.
    """
    with blas_threads(1):
        return _inverse_trace(factor)


def inverse_squares(
    factor: Float64[np.ndarray, "b_and_1 n"], y: Float64[np.ndarray, "n c"]
) -> Float64[np.ndarray, " c"]:
    """Return yᵀ(L Lᵀ)⁻¹y, the squared norm of L⁻¹y, for each of c columns y.

    This takes 4 n · b operations per column, in blocks of b rows.

    Args:
        factor: Banded triangle L, from the function `factor`.
        y: The columns, (n, c).
    """
    size, n = max(len(factor) - 1, 1), factor.shape[1]
    total, before = np.zeros(y.shape[1]), np.zeros((0, y.shape[1]))
    below = np.zeros((0, 0))
    with blas_threads(1):
        for start in range(0, n, size):
            width = min(size, n - start)
            right = y[start : start + width] - (below[:width] @ before if len(before) else 0.0)
            diagonal, below = _blocks(factor, start, width, min(size, n - start - width))
            before = scipy.linalg.solve_triangular(diagonal, right, lower=True, check_finite=False)
            total += np.square(before).sum(axis=0)
    return total


def _inverse_trace(factor: np.ndarray) -> float:
    size, n = max(len(factor) - 1, 1), factor.shape[1]
    trace, after = 0.0, np.zeros((0, 0))
    (trtri,) = scipy.linalg.get_lapack_funcs(("trtri",), (factor,))
    for start in reversed(range(0, n, size)):
        diagonal, below = _blocks(factor, start, min(size, n - start), len(after))
        inverse, info = trtri(diagonal, lower=1)
        if info != 0:
            raise np.linalg.LinAlgError(f"trtri returned {info}")
        step = below @ inverse
        after = inverse.T @ inverse + step.T @ after @ step
        trace += float(np.trace(after))
    return trace


def _blocks(factor: np.ndarray, start: int, width: int, following: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two blocks of L as full matrices: D (width, width) on the diagonal, and E (following, width) below it.

    Args:
        factor: Banded triangle L, from the function `factor`.
        start: Index of the first column.
        width: Number of columns.
        following: Number of rows of E.
    """
    i, j = np.mgrid[: width + following, :width]
    inside = (i >= j) & (i - j < len(factor))
    block = np.where(inside, factor[np.where(inside, i - j, 0), start + j], 0)
    return block[:width], block[width:]
