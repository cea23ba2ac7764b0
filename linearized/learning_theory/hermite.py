"""The spectrum of a rotation-invariant kernel on nearly Gaussian inputs: the Hermite eigenstructure.

For inputs with covariance eigenvalues γ_i the eigenfunctions of k are products of Hermite polynomials in the principal
components, and the eigenvalue of a product of degrees α = (α_1, α_2, ...) is c_ℓ Π γ_i^α_i with ℓ = Σα_i: one level
coefficient for each degree (Karkada, Turnbull, Liu and Simon, arXiv 2510.14878). With the target's coefficients in the
polynomials this predicts learning curves from the covariance and the labels, without a Gram matrix.

The level coefficients are those of k on a sphere of radius √tr Σ whose dimension d is the effective dimension of Σ:
c_ℓ = λ_ℓ (d/tr Σ)^ℓ with the exact eigenvalue λ_ℓ of degree ℓ (`learning_theory.sphere`), which for many dimensions is
the ℓ-th derivative of k in x·z at 0. For equal γ_i the eigenvalues are then those on the sphere. The approximation
requires norms that vary little and levels that decrease fast: it fails first for few effective dimensions and kernels
with a kink at x = z (Laplace).
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg

from linearized.base.errors import UserError
from linearized.base.shapes import Float64
from linearized.learning_theory.sphere import Profile, effective_dimension, sphere_spectrum

DEGREES = 10  # highest degree of a product
LEAST_DIMENSION = 2.01  # the formulas for the sphere require a dimension above 2


class HermiteModes(NamedTuple):
    """Products of Hermite polynomials, in decreasing order of their eigenvalues.

    Attributes:
        eigenvalues: (m,).
        components: For each product the indices of its principal components, each repeated by its degree; () is the
            constant.
    """

    eigenvalues: np.ndarray
    components: list[tuple[int, ...]]


class HermiteTarget(NamedTuple):
    """Mean squares of a target in the modes.

    Attributes:
        powers: v² of each mode and output (m, k), corrected for the bias of a finite number of rows, so that values of
            modes that do not contribute may be below 0.
        rest: Mean square outside of these modes, for each output (k,).
    """

    powers: np.ndarray
    rest: np.ndarray


def level_coefficients(
    profile: Profile, variances: Float64[np.ndarray, " d"], dim: float = 0.0, degrees: int = DEGREES
) -> np.ndarray:  # fmt: skip
    """Return c_ℓ for the degrees 0 to `degrees`; negative values are set to 0.

    Args:
        profile: k(x, z) on the sphere of radius √tr Σ, as a function from cosines (m,) to values (m,).
        variances: γ, eigenvalues of the covariance of the inputs.
        dim: The effective dimension, above 2; 0: that of these variances.
        degrees: Highest degree.
    """
    dim = max(dim or effective_dimension(variances), LEAST_DIMENSION)
    found = sphere_spectrum(profile, dim, degrees).eigenvalues
    return np.maximum(found, 0) * (dim / variances.sum()) ** np.arange(degrees + 1)


def hermite_modes(variances: Float64[np.ndarray, " d"], levels: Sequence[float], count: int) -> HermiteModes:
    """Return the `count` modes of largest eigenvalues c_ℓ Π γ_i^α_i, or all if there are fewer.

    The best-first search takes about 3 ℓ heap operations per mode.

    Args:
        variances: γ, positive and in decreasing order.
        levels: c_ℓ, at least 0, from degree 0 on.
        count: Number of modes.

    Raises `UserError` for other values.
    """
    variances = np.asarray(variances, np.float64)
    if not len(variances) or not (variances > 0).all() or (np.diff(variances) > 0).any() or count < 1:
        raise UserError("Hermite modes need positive variances in decreasing order, and a count of at least 1.")
    if not np.isfinite(levels).all() or min(levels) < 0:
        raise UserError(f"Level coefficients must be finite and at least 0. Received: {list(levels)}.")
    logs, last = np.log(variances).tolist(), len(variances) - 1
    waiting: list[tuple[float, tuple[int, ...]]] = []
    for degree, level in enumerate(levels):
        if level > 0:
            waiting.append((-math.log(level) - degree * logs[0], (0,) * degree))
    heapq.heapify(waiting)
    seen, values, found = {mode for _, mode in waiting}, [], []
    while waiting and len(found) < count:
        cost, mode = heapq.heappop(waiting)
        values.append(math.exp(-cost))
        found.append(mode)
        for place, index in enumerate(mode):  # ascending indices, so that each mode is reached in one order only
            if index < (mode[place + 1] if place + 1 < len(mode) else last):
                following = (*mode[:place], index + 1, *mode[place + 1 :])
                if following not in seen:
                    seen.add(following)
                    heapq.heappush(waiting, (cost + logs[index] - logs[index + 1], following))
    return HermiteModes(np.array(values), found)


def hermite_features(
    scores: Float64[np.ndarray, "n d"], components: Sequence[tuple[int, ...]]
) -> Float64[np.ndarray, "n m"]:  # fmt: skip
    """Return products of normalised Hermite polynomials at rows; for Gaussian rows they are orthonormal.

    Args:
        scores: Principal components divided by their standard deviations.
        components: Components of the modes, see `HermiteModes`.
    """
    found, polynomials = np.ones((len(scores), len(components))), {}
    for column, mode in zip(found.T, components, strict=True):
        for index in set(mode):
            degree = mode.count(index)
            if (index, degree) not in polynomials:
                series = [0.0] * degree + [1 / math.sqrt(math.factorial(degree))]
                polynomials[index, degree] = np.polynomial.hermite_e.hermeval(scores[:, index], series)
            column *= polynomials[index, degree]
    return found


def hermite_target(
    scores: Float64[np.ndarray, "n d"], targets: Float64[np.ndarray, "n k"], components: Sequence[tuple[int, ...]]
) -> HermiteTarget:  # fmt: skip
    """Estimate the target's mean squares in modes from rows, by orthogonalising the features in the order of the modes.

    The polynomials of rows that are not exactly Gaussian are not exactly orthogonal; the part that a mode shares with
    earlier modes is assigned to these. Costs 2 n m² operations and n m numbers of memory.

    Args:
        scores: Principal components divided by their standard deviations.
        targets: Targets of the rows (n, k).
        components: Components of at most n/2 modes, see `HermiteModes`.
    """
    rows, modes = len(scores), len(components)
    if not 1 <= modes <= rows // 2:
        raise UserError(f"A target is decomposed in 1 to {rows // 2} modes on {rows} rows. Received: {modes}.")
    basis, triangle = scipy.linalg.qr(hermite_features(scores, components), mode="economic", overwrite_a=True,
                                      check_finite=False)  # fmt: skip
    lengths = np.abs(np.diagonal(triangle))
    squares = np.square(basis.T @ targets)
    squares[lengths < 1e-8 * lengths.max()] = 0  # features that are combinations of earlier ones
    whole = np.square(targets).sum(axis=0)
    left = np.maximum(whole - squares.sum(axis=0), 0)
    floor = left / max(rows - modes, 1)  # mean square that the rest of the target adds to each mode by chance
    powers = (squares - floor) / rows
    return HermiteTarget(powers, np.maximum(whole / rows - powers.sum(axis=0), 0))
