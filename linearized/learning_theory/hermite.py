"""The spectrum of a rotation-invariant kernel on inputs that are near Gaussian: the Hermite eigenstructure.

For inputs with covariance eigenvalues γ_i the eigenfunctions of k are products of Hermite polynomials in the principal
components, and the eigenvalue of a product of degrees α = (α_1, α_2, ...) is c_ℓ Π γ_i^α_i with ℓ = Σα_i: one level
coefficient for each degree (Karkada, Turnbull, Liu and Simon, arXiv 2510.14878). With the target's coefficients in the
polynomials this predicts learning curves from the covariance and the labels, without a Gram matrix.

The level coefficients are those of k on the sphere that the inputs resemble, of radius √tr Σ and of the effective
dimension d of Σ: c_ℓ = λ_ℓ (d/tr Σ)^ℓ with the exact eigenvalue λ_ℓ of degree ℓ (`learning_theory.sphere`), which for
many dimensions is the ℓ-th derivative of k in x·z at 0. For equal γ_i the eigenvalues are then those on the sphere. The
approximation needs norms that vary little and levels that fall fast: few effective dimensions and kernels with a kink
at x = z (Laplace) break it first.
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
LEAST_DIMENSION = 2.01  # the sphere's formulas need more than 2


class HermiteModes(NamedTuple):
    """Products of Hermite polynomials, in decreasing order of their eigenvalues.

    Attributes:
        eigenvalues: (m,).
        components: For each product the principal components in it, each as often as its degree says; () is the
            constant.
    """

    eigenvalues: np.ndarray
    components: list[tuple[int, ...]]


class HermiteTarget(NamedTuple):
    """A target's mean squares in the modes.

    Attributes:
        powers: v² of each mode and output (m, k), free of the bias by the finite number of rows, so that some of modes
            without a part are below 0.
        rest: Mean square outside of these modes, of each output (k,).
    """

    powers: np.ndarray
    rest: np.ndarray


def level_coefficients(
    profile: Profile, variances: Float64[np.ndarray, " d"], dim: float = 0.0, degrees: int = DEGREES
) -> np.ndarray:  # fmt: skip
    """Return c_ℓ for the degrees 0 to `degrees`, negative ones as 0.

    Args:
        profile: k(x, z) on the sphere of radius √tr Σ, from cosines (m,) to values (m,).
        variances: γ, eigenvalues of the covariance of the inputs.
        dim: The effective dimension, above 2; 0: that of these variances.
    """
    dim = max(dim or effective_dimension(variances), LEAST_DIMENSION)
    found = sphere_spectrum(profile, dim, degrees).eigenvalues
    return np.maximum(found, 0) * (dim / variances.sum()) ** np.arange(degrees + 1)


def hermite_modes(variances: Float64[np.ndarray, " d"], levels: Sequence[float], count: int) -> HermiteModes:
    """Return the `count` modes of largest eigenvalues c_ℓ Π γ_i^α_i, or all where there are fewer.

    A best-first search: about 3 ℓ heap operations for each mode.

    Args:
        variances: γ, positive and in decreasing order.
        levels: c_ℓ, at least 0, from degree 0 on.

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
        for place, index in enumerate(mode):  # ascending indices: each mode is reached in this order alone
            if index < (mode[place + 1] if place + 1 < len(mode) else last):
                following = (*mode[:place], index + 1, *mode[place + 1 :])
                if following not in seen:
                    seen.add(following)
                    heapq.heappush(waiting, (cost + logs[index] - logs[index + 1], following))
    return HermiteModes(np.array(values), found)


def hermite_features(
    scores: Float64[np.ndarray, "n d"], components: Sequence[tuple[int, ...]]
) -> Float64[np.ndarray, "n m"]:  # fmt: skip
    """Return the products of normalised Hermite polynomials at rows: of mean square 1 and orthogonal for Gaussian rows.

    Args:
        scores: Principal components over their standard deviations.
        components: As `HermiteModes` has them.
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

    Rows that are not quite Gaussian have polynomials that are not quite orthogonal: what a mode shares with those
    before it counts for these. Costs 2 n m² operations and n m numbers of memory.

    Args:
        scores, components: As `hermite_features` takes them; at most n/2 modes.
    """
    rows, modes = len(scores), len(components)
    if not 1 <= modes <= rows // 2:
        raise UserError(f"A target is decomposed in 1 to {rows // 2} modes on {rows} rows. Received: {modes}.")
    basis, triangle = scipy.linalg.qr(hermite_features(scores, components), mode="economic", overwrite_a=True,
                                      check_finite=False)  # fmt: skip
    lengths = np.abs(np.diagonal(triangle))
    squares = np.square(basis.T @ targets)
    squares[lengths < 1e-8 * lengths.max()] = 0  # features that the ones before span
    whole = np.square(targets).sum(axis=0)
    left = np.maximum(whole - squares.sum(axis=0), 0)
    floor = left / max(rows - modes, 1)  # what rows outside the modes put into each of them by chance
    powers = (squares - floor) / rows
    return HermiteTarget(powers, np.maximum(whole / rows - powers.sum(axis=0), 0))
