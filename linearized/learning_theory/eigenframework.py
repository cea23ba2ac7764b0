"""Prediction of the mean square error of kernel ridge regression from the kernel's eigenvalues and the target.

Let λ_i be the eigenvalues of the kernel's integral operator and v_i the coefficients of the target in its orthonormal
eigenfunctions. Kernel ridge regression on n rows solves (K + ρI)α = y with the kernel K between the rows and the ridge
ρ. In this theory each eigenmode is learned independently. A fit to n rows at the ridge ρ acts like a fit to the whole
distribution at an effective ridge κ: the fraction ℓ_i = λ_i/(λ_i + κ) of mode i is learned. The test error is
Σ (1 - ℓ_i)² v_i² times a factor for the random choice of the rows (Simon et al., "The Eigenlearning Framework", TMLR
2023; Canatar et al., Nature Communications 2021; Wei et al., ICML 2022).

With L = Σ ℓ_i and Q = Σ ℓ_i², rows that are drawn from a population have

- κ with L + ρ/κ = n,
- test error Σ (1 - ℓ_i)² v_i² / (1 - Q/n),
- train error (1 - L/n)² times the test error.

Train rows can also be drawn without replacement from a pool of N rows. λ_i are then the eigenvalues of K/N, for the
kernel K between the rows of the pool, and v_i the coefficients of the pool's targets in the eigenvectors. The test
error is that on the N - n other rows of the pool, which are equivalent to new rows. With f = n/N, a pool has

- κ with L + (ρ/κ)(1 - L/N) = n,
- test error Σ (1 - ℓ_i)² v_i² / (1 - f + f(1 - L/n)² - (1 - f)Q/n),
- train error (1 - L/n)² times the test error.

Derivation for a pool: let D be the diagonal matrix with 1/ρ for train rows and 0 for the other rows. The residual of
all N rows is r = (I + KD)⁻¹y. Let r'_i be the residual of row i if D_ii were 0. Then r_i = r'_i/(1 + h D_ii), with the
same number h for all rows. The mean of r over the random choice of the train rows determines κ. The variance of r
determines the denominator of the test error. The mean of r² over the pool is (1 - f) times the test error plus f times
the train error, because the train rows belong to the pool. The formulas are exact at n = N, where ρ = Nκ and the mean
of r² over the pool is Σ (1 - ℓ_i)² v_i². For N → ∞ they become those of a population. At ρ = 0 a pool and a population
have the same κ, and the test error of a pool is that of a population divided by 1 - f.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from scipy.optimize import brentq

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64

TINY = 1e-290  # smallest κ, relative to its upper bound, at which the search for a root gives up and returns 0


class Prediction(NamedTuple):
    """Predicted errors of kernel ridge regression on n train rows at one ridge.

    Attributes:
        kappa: κ, the effective ridge, in units of the kernel's eigenvalues λ_i.
        degrees: Σ λ_i/(λ_i + κ), the effective number of eigenmodes that are learned; at most n.
        test: Mean square error on rows that are not train rows, for each output (k,); inf where the variance diverges.
        train: Mean square error on the train rows, for each output (k,).
    """

    kappa: float
    degrees: float
    test: np.ndarray
    train: np.ndarray


class Spectrum(NamedTuple):
    """Spectrum of the kernel K between the N rows of a pool, and the coefficients of their targets Y (N, k).

    Attributes:
        eigenvalues: Eigenvalues of K/N in decreasing order (N,).
        coefficients: VᵀY/√N for the matrix V of the eigenvectors, (N, k). The sum of the squares of a column is the
            mean square of that output over the pool.
    """

    eigenvalues: np.ndarray
    coefficients: np.ndarray


def spectrum(gram: Float[np.ndarray, "n n"], targets: Float[np.ndarray, "n k"]) -> Spectrum:
    """Return the eigenvalues of the Gram matrix of a pool, and the targets in the basis of its eigenvectors.

    It takes about 9 N³ operations, and memory for 3 N² numbers of the data type of the Gram matrix. Eigenvalues that
    are negative because of rounding errors are set to 0.

    Args:
        gram: Kernel K between the N rows of the pool, in float32 or float64.
        targets: Targets of the rows (N, k).

    Raises:
        UserError: If an entry is not finite.
    """
    if not (np.isfinite(gram).all() and np.isfinite(targets).all()):
        raise UserError("The kernel or the targets are not finite. Look for NaN or huge numbers in the inputs.")
    rows = len(gram)
    values, vectors = scipy.linalg.eigh(gram, driver="evd", check_finite=False)
    coefficients = (vectors.T @ targets.astype(vectors.dtype)).astype(np.float64) / np.sqrt(rows)
    return Spectrum(np.maximum(values[::-1].astype(np.float64) / rows, 0), coefficients[::-1])


def effective_ridge(eigenvalues: Float64[np.ndarray, " m"], n: int, ridge: float, pool: int = 0) -> float:
    """Return the effective ridge κ, the root of L + ρ/κ = n or, for a pool, of L + (ρ/κ)(1 - L/N) = n.

    L = Σ λ_i/(λ_i + κ) depends on κ. The left-hand side decreases to 0 as κ grows. If ρ > 0, or if more than n
    eigenvalues are positive, it exceeds n for small κ. There is then one root, which is found by Brent's method in log
    κ. If ρ = 0 and at most n eigenvalues are positive, κ is 0.

    Args:
        eigenvalues: λ, at least 0, in any order.
        n: Number of train rows.
        ridge: ρ of (K + ρI)α = y, at least 0; not divided by n.
        pool: N, the number of rows of the pool from which the train rows are drawn, which is also the number of
            eigenvalues; 0: the train rows are drawn from a population.

    Raises:
        UserError: If an argument is out of its range, or if a pool has fewer rows than n or another number of
            eigenvalues.
    """
    _check(eigenvalues, n, ridge, pool)
    if ridge == 0 and np.count_nonzero(eigenvalues) <= n:
        return 0.0
    if pool == n:
        return ridge / n
    total = float(eigenvalues.sum()) + ridge

    def excess(log_kappa: float) -> float:
        kappa = np.exp(log_kappa)
        learned = float((eigenvalues / (eigenvalues + kappa)).sum())
        unlearned = float((1 / (eigenvalues + kappa)).sum()) * ridge / pool if pool else ridge / kappa
        return learned + unlearned - n

    high = np.log(total / n)  # the left side is at most total/κ
    low = np.log(ridge / (pool or n)) if ridge > 0 else high - 1.0
    while ridge == 0 and excess(low) < 0:
        low = high + 2 * (low - high)
        if low - high < np.log(TINY):
            return 0.0
    if excess(low) <= 0:  # up to rounding errors the bound is the root
        return float(np.exp(low))
    return float(np.exp(brentq(excess, low, max(high, low) + 1e-9, xtol=1e-13, rtol=1e-13)))


def learnabilities(eigenvalues: Float64[np.ndarray, " m"], kappa: float) -> Float64[np.ndarray, " m"]:
    """Return ℓ_i = λ_i/(λ_i + κ), the fraction of each eigenmode that is learned; 0 for modes of eigenvalue 0.

    Args:
        eigenvalues: λ, at least 0.
        kappa: κ, the effective ridge, as `effective_ridge` returns it.
    """
    return np.divide(eigenvalues, eigenvalues + kappa, out=np.zeros_like(eigenvalues), where=eigenvalues > 0)


def predict(
    eigenvalues: Float64[np.ndarray, " m"], coefficients: Float64[np.ndarray, "m k"], n: int, ridge: float, *,
    pool: int = 0, noise: float = 0.0,
) -> Prediction:  # fmt: skip
    """Predict the mean square errors of kernel ridge regression on n rows, on test and on train rows.

    Each of k outputs has errors of its own.

    Args:
        eigenvalues: λ of the kernel's integral operator, repeated by multiplicity; for a pool all N eigenvalues of K/N.
        coefficients: v, the coefficients of each output's target in the orthonormal eigenfunctions, (m, k).
        n: Number of train rows.
        ridge: ρ of (K + ρI)α = y, at least 0; not divided by n.
        pool: N, the number of rows of the pool with this spectrum, from which the train rows are drawn; 0: they are
            drawn from a population.
        noise: Variance of the label noise of each output. It has the effect of target modes that are not learned, and
            the errors include it. For a pool, whose targets already contain the noise, it is 0.

    Raises:
        UserError: If an argument is out of its range, or the numbers of eigenvalues, coefficients and pool rows differ.

    Example:
        >>> import numpy as np
        >>> from linearized.learning_theory.eigenframework import predict
        >>> eigenvalues = np.arange(1, 1001) ** -2.0
        >>> target = np.zeros((1000, 1))
        >>> target[0] = 1.0  # the target is the first eigenfunction
        >>> few, many = (predict(eigenvalues, target, n, ridge=1e-3) for n in (5, 50))
        >>> bool(many.test[0] < few.test[0] < 1)
        True
    """
    return predict_from_powers(eigenvalues, np.square(coefficients), n, ridge, pool=pool, noise=noise)


def predict_from_powers(
    eigenvalues: Float64[np.ndarray, " m"], powers: Float64[np.ndarray, "m k"], n: int, ridge: float, *,
    pool: int = 0, noise: float | Float64[np.ndarray, " k"] = 0.0,
) -> Prediction:  # fmt: skip
    """Predict the errors of kernel ridge regression from the squares of the target's coefficients; see `predict`.

    It is for cases in which the squares are estimated and the coefficients themselves are not known.

    Args:
        eigenvalues: λ of the kernel's integral operator, repeated by multiplicity; for a pool all N eigenvalues of K/N.
        powers: v², the squares of the coefficients of each output (m, k); unbiased estimates may be below 0.
        n: Number of train rows.
        ridge: ρ of (K + ρI)α = y, at least 0; not divided by n.
        pool: N, the number of rows of the pool from which the train rows are drawn; 0: they are drawn from a
            population.
        noise: Variance of the label noise, one number or one for each output. The caller adds the mean square of the
            part of the target that is in none of the modes.

    Raises:
        UserError: If an argument is out of its range, or the numbers of eigenvalues, powers and pool rows differ.
    """
    if len(powers) != len(eigenvalues) or np.min(noise) < 0:
        raise UserError(f"Give a row of coefficients for each of {len(eigenvalues)} eigenvalues, and noise of at least "
                        f"0. Received: {len(powers)} rows, noise={noise}.")  # fmt: skip
    kappa = effective_ridge(eigenvalues, n, ridge, pool)
    learned = learnabilities(eigenvalues, kappa)
    degrees, squares = float(learned.sum()), float(np.square(learned).sum())
    missing = np.square(1 - learned) @ powers + noise
    fitted = (1 - degrees / n) ** 2  # the train error over the test error
    part = n / pool if pool else 0.0
    factor = 1 - part + part * fitted - (1 - part) * squares / n
    with np.errstate(divide="ignore"):
        test = missing / factor if factor > 1e-12 else np.full(len(missing), np.inf)
    train = test * fitted if np.isfinite(test).all() else np.zeros(len(missing))
    return Prediction(kappa, degrees, test, train)


def _check(eigenvalues: np.ndarray, n: int, ridge: float, pool: int) -> None:
    if eigenvalues.ndim != 1 or not len(eigenvalues) or not np.isfinite(eigenvalues).all() or (eigenvalues < 0).any():
        raise UserError("Eigenvalues must be finite numbers of at least 0, one at least.")
    if n < 1 or not 0 <= ridge < np.inf:
        raise UserError(f"Predictions need n of at least 1 and a ridge of at least 0. Received: n={n}, ridge={ridge}.")
    if pool and not (n <= pool == len(eigenvalues)):
        raise UserError(f"A pool of {pool} rows has {pool} eigenvalues and at most {pool} train rows. Received: "
                        f"{len(eigenvalues)} eigenvalues, n={n}.")  # fmt: skip
