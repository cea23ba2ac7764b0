"""The spectrum of a rotation-invariant kernel k(x, z) on nearly Gaussian inputs: the Hermite eigenstructure.

Let Σ be the covariance of the inputs and γ_i its eigenvalues. The eigenfunctions of k are products of Hermite
polynomials in the principal components. The product with degree α_i in component i has the eigenvalue c_ℓ Π γ_i^α_i,
where ℓ = Σ α_i is its total degree, and each ℓ has one level coefficient c_ℓ (Karkada, Turnbull, Liu and Simon, arXiv
2510.14878). Together with the coefficients of the target in these polynomials, the eigenvalues predict learning curves.
Only the covariance and the labels are needed for this, and no Gram matrix.

The level coefficients are computed on a sphere of radius √tr Σ whose dimension d is the effective dimension of
Σ (`sphere.effective_dimension`): c_ℓ = λ_ℓ (d/tr Σ)^ℓ, where λ_ℓ is the exact eigenvalue of k of degree ℓ on the sphere
(`learning_theory.sphere`). In many dimensions, c_ℓ tends to the ℓ-th derivative of k with respect to x·z at 0. If all
γ_i are equal, the eigenvalues of the products are those on the sphere. The approximation requires that the norms of the
inputs vary little, and that c_ℓ decreases fast with ℓ. It is least accurate for few effective dimensions, and for
kernels with a kink at x = z (Laplace).
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
        eigenvalues: Eigenvalues of the m products (m,).
        components: For each product the indices of its principal components, each repeated by its degree: (0, 0, 3) is
            degree 2 in component 0 times degree 1 in component 3, and () is the constant.
    """

    eigenvalues: np.ndarray
    components: list[tuple[int, ...]]


class HermiteTarget(NamedTuple):
    """Decomposition of the mean square of a target into m modes.

    Attributes:
        powers: Estimated squares v² of the coefficients of each mode and output (m, k). They are corrected for the bias
            of a finite number of rows. Modes that do not contribute may therefore have values below 0.
        rest: Mean square of the part of the target that is in none of these modes, for each output (k,).
    """

    powers: np.ndarray
    rest: np.ndarray


def level_coefficients(
    profile: Profile, variances: Float64[np.ndarray, " d"], dim: float = 0.0, degrees: int = DEGREES
) -> np.ndarray:  # fmt: skip
    """Return the level coefficients c_ℓ of a kernel, a factor of its eigenvalues for each total degree ℓ.

    The kernel's eigenvalue of a product of Hermite polynomials of degrees α_i in the principal components i is c_ℓ Π
    γ_i^α_i, where ℓ = Σ α_i. Negative coefficients are set to 0.

    Args:
        profile: The kernel k(x, z) on the sphere of radius √tr Σ: a function that maps cosines (m,) of the angle
            between x and z to values (m,).
        variances: γ, the eigenvalues of the covariance Σ of the inputs.
        dim: Effective dimension of the inputs; values below 2.01 count as 2.01. 0: (tr Σ)²/tr Σ² of these variances.
        degrees: Highest degree.

    Returns:
        The coefficients of the degrees ℓ = 0 to `degrees`, (degrees + 1,).
    """
    dim = max(dim or effective_dimension(variances), LEAST_DIMENSION)
    found = sphere_spectrum(profile, dim, degrees).eigenvalues
    return np.maximum(found, 0) * (dim / variances.sum()) ** np.arange(degrees + 1)


def hermite_modes(variances: Float64[np.ndarray, " d"], levels: Sequence[float], count: int) -> HermiteModes:
    """Return the `count` products of Hermite polynomials with the largest eigenvalues c_ℓ Π γ_i^α_i.

    The product has degree α_i in principal component i of the inputs and total degree ℓ = Σ α_i. The best-first search
    takes about 3 ℓ heap operations for each mode of degree ℓ.

    Args:
        variances: γ, the eigenvalues of the covariance of the inputs, positive and in decreasing order.
        levels: Level coefficients c_ℓ, at least 0, from degree 0 on, as `level_coefficients` returns them.
        count: Largest number of modes that are returned.

    Raises:
        UserError: If the variances are not positive and decreasing, a coefficient is negative or not finite, or `count`
            is below 1.
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
    """Return the values of products of normalised Hermite polynomials; on Gaussian rows the products are orthonormal.

    Args:
        scores: Principal components of the n rows, divided by their standard deviations.
        components: For each of the m products the indices of its principal components, each repeated by its degree: (0,
            0, 3) is degree 2 in component 0 times degree 1 in component 3.

    Returns:
        The values (n, m), one column for each product.
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
    """Estimate how much of the mean square of a target is in each mode, from the targets of n rows.

    A mode is a product of Hermite polynomials in the principal components of the rows. On rows that are not exactly
    Gaussian the polynomials are not exactly orthogonal. They are therefore orthogonalised in the order of the modes, so
    that the part that a mode has in common with earlier modes is assigned to the earlier ones. For m modes this takes 2
    n m² operations and memory for n m numbers.

    Args:
        scores: Principal components of the rows, divided by their standard deviations.
        targets: Targets of the rows (n, k).
        components: For each of 1 to n/2 modes the indices of its principal components, each repeated by its degree.

    Raises:
        UserError: If there are no modes, or more than n/2.
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
