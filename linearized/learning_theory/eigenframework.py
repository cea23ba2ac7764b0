"""The error of kernel ridge regression from the eigenvalues of the kernel and the coefficients of the target.

A kernel with eigenvalues λ_i of its integral operator learns each eigenmode independently: n rows and a ridge ρ of
(K + ρI)α = y act like the ridge κ on the whole distribution, the fraction ℓ_i = λ_i/(λ_i + κ) of mode i is learned, and
the test error is Σ (1 - ℓ_i)² v_i² times a factor for the variance of the sample (Simon et al., "The Eigenlearning
Framework", TMLR 2023; Canatar et al., Nature Communications 2021; Wei et al., ICML 2022).

The distribution is either a population, or a pool of N rows from which the n train rows are drawn without replacement:
λ are then the eigenvalues of K/N on the pool, and v the coefficients of the pool's targets in its eigenvectors. With
f = n/N, L = Σℓ and Q = Σℓ²:

|               | population                | pool of N rows                                       |
| κ solves      | L + ρ/κ = n               | L + (ρ/κ)(1 - L/N) = n                               |
| test error    | Σ(1-ℓ)²v² / (1 - Q/n)     | Σ(1-ℓ)²v² / (1 - f + f(1 - L/n)² - (1 - f)Q/n)       |
| train error   | (1 - L/n)² test error     | (1 - L/n)² test error                                |

The test error of a pool is that on its N - n other rows, which are equivalent to fresh ones. Derivation: the residual
of all N rows is r = (I + KD)⁻¹y with D_ii = 1/ρ on the train rows and 0 elsewhere. A row's residual is that without the
row divided by 1 + h D_ii, with the same h for all rows; averaging over which rows are drawn gives κ, and its
fluctuation gives the variance. The mean of r² over the pool is (1 - f) times the test error plus f times the train
error, which is the correction for train rows that belong to the pool. The formula is exact at n = N, where ρ = Nκ and
the pool's mean of r² is Σ(1-ℓ)²v², and becomes the first column for N → ∞. At ρ = 0 both have the same κ, and the
pool's error is that of the first column over 1 - f.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from scipy.optimize import brentq

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64

TINY = 1e-290  # smallest κ, relative to its upper bound, in the search for a root


class Prediction(NamedTuple):
    """The theory's prediction for n train rows at one ridge.

    Attributes:
        kappa: κ, the effective ridge, in units of the eigenvalues.
        degrees: Σℓ, the effective number of modes that are learned; at most n.
        test: Mean square error on rows that are not train rows, for each output (k,); inf where the variance diverges.
        train: Mean square error on the train rows, for each output (k,).
    """

    kappa: float
    degrees: float
    test: np.ndarray
    train: np.ndarray


class Spectrum(NamedTuple):
    """Eigenvalues of K/N in decreasing order (N,), and the targets' coefficients VᵀY/√N in its eigenvectors (N, k).

    The sum of the squares of a column of coefficients is the mean square of that output over the pool.
    """

    eigenvalues: np.ndarray
    coefficients: np.ndarray


def spectrum(gram: Float[np.ndarray, "n n"], targets: Float[np.ndarray, "n k"]) -> Spectrum:
    """Decompose the Gram matrix of a pool and the targets of its rows.

    Args:
        gram: K between the pool's rows, in float32 or float64; the decomposition runs in its precision and takes about
            9 N³ operations and 3 N² numbers of memory. Eigenvalues that rounding makes negative are set to 0.
        targets: Targets of the rows (N, k).

    Raises `UserError` if an entry is not finite.
    """
    if not (np.isfinite(gram).all() and np.isfinite(targets).all()):
        raise UserError("The kernel or the targets are not finite. Look for NaN or huge numbers in the inputs.")
    rows = len(gram)
    values, vectors = scipy.linalg.eigh(gram, driver="evd", check_finite=False)
    coefficients = (vectors.T @ targets.astype(vectors.dtype)).astype(np.float64) / np.sqrt(rows)
    return Spectrum(np.maximum(values[::-1].astype(np.float64) / rows, 0), coefficients[::-1])


def effective_ridge(eigenvalues: Float64[np.ndarray, " m"], n: int, ridge: float, pool: int = 0) -> float:
    """Return κ, the root of the equation in the module's table, by Brent's method in log κ.

    The left side decreases monotonically from the rank (or, with a ridge, from infinity; for a pool, from N) to 0, so
    there is one root. At ridge 0 κ is 0 if n is at least the number of positive eigenvalues.

    Args:
        eigenvalues: λ, at least 0, in any order.
        n: Number of train rows.
        ridge: ρ of (K + ρI)α = y.
        pool: N, the number of rows of the pool; 0: a population.

    Raises `UserError` for invalid values.
    """
    _check(eigenvalues, n, ridge, pool)
    if ridge == 0 and np.count_nonzero(eigenvalues) <= n:
        return 0.0
    if pool == n:
        return ridge / n
    total = float(eigenvalues.sum()) + ridge
    if total == 0:
        raise UserError("All eigenvalues are 0: the kernel tells no rows apart.")

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
    """Return ℓ = λ/(λ + κ), the fraction of each eigenmode that is learned; 0 for modes of eigenvalue 0."""
    return np.divide(eigenvalues, eigenvalues + kappa, out=np.zeros_like(eigenvalues), where=eigenvalues > 0)


def predict(
    eigenvalues: Float64[np.ndarray, " m"], coefficients: Float64[np.ndarray, "m k"], n: int, ridge: float, *,
    pool: int = 0, noise: float = 0.0,
) -> Prediction:  # fmt: skip
    """Predict test and train error of kernel ridge regression on n rows, for each output.

    Args:
        eigenvalues: λ of the kernel's integral operator, repeated by multiplicity; for a pool all N of K/N.
        coefficients: v, the coefficients of each output's target in the orthonormal eigenfunctions.
        n: Number of train rows.
        ridge: ρ of (K + ρI)α = y, the published unit; not divided by n.
        pool: N, the number of rows of the pool with this spectrum; 0: a population.
        noise: Variance of the label noise, which is added to each output's error; the targets of a pool include it.

    Raises `UserError` for invalid values.
    """
    return predict_from_powers(eigenvalues, np.square(coefficients), n, ridge, pool=pool, noise=noise)


def predict_from_powers(
    eigenvalues: Float64[np.ndarray, " m"], powers: Float64[np.ndarray, "m k"], n: int, ridge: float, *,
    pool: int = 0, noise: float | Float64[np.ndarray, " k"] = 0.0,
) -> Prediction:  # fmt: skip
    """Predict as `predict` does, from the squares of the coefficients.

    Args:
        eigenvalues: λ, as for `predict`.
        powers: v² of each output; unbiased estimates may be below 0.
        n: Number of train rows.
        ridge: ρ, as for `predict`.
        pool: N, as for `predict`.
        noise: As for `predict`, for all outputs or for each; includes the mean square of the target outside all modes.
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
