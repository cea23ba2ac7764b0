"""Exact spectra of rotation-invariant kernels on the unit sphere: one eigenvalue for each degree of polynomials.

The eigenfunctions of a kernel k(x, z) = f(cos θ), with the angle θ between x and z, are the spherical harmonics. By the
Funk-Hecke formula those of degree ℓ share the eigenvalue λ_ℓ = E[f(t) P_ℓ(t)]. Here t is one coordinate of a uniform
random point of the sphere in d dimensions; its density is proportional to (1 - t²)^((d-3)/2). P_ℓ is the Gegenbauer
polynomial of parameter (d - 2)/2 with P_ℓ(1) = 1. The expectation is computed by a Gauss-Legendre sum over the angle.
Kernels of ReLU networks are smooth functions of the angle, but not of t at t = ±1. A sum over the angle therefore
converges faster than a sum over t.

The formulas also hold for dimensions that are not integers. If only the degrees of the learned polynomials matter,
inputs with covariance Σ behave like inputs on a sphere of the effective dimension (tr Σ)²/tr Σ².
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, roots_legendre

from linearized.base.errors import UserError
from linearized.base.shapes import Float64

NODES = 800  # number of angles in the sum
HIGHEST = 200  # largest degree

Profile = Callable[[np.ndarray], np.ndarray]


class SphereSpectrum(NamedTuple):
    """Spectrum of a kernel on the sphere by degree 0, 1, ..., L.

    Attributes:
        eigenvalues: λ_ℓ, one per degree (L + 1,). Some are negative if f(cos θ) is not a positive semi-definite kernel.
        multiplicities: Number of independent spherical harmonics of each degree (L + 1,), as floats.
    """

    eigenvalues: np.ndarray
    multiplicities: np.ndarray

    def shares(self) -> np.ndarray:
        """Return the part of the kernel's trace f(1) that belongs to each degree from 0 to L, (L + 1,).

        It is the eigenvalue times its multiplicity. The parts of all degrees, including those above L, add up to f(1).
        """
        return self.eigenvalues * self.multiplicities


def sphere_spectrum(profile: Profile, dim: float, degrees: int) -> SphereSpectrum:
    """Return the eigenvalues of the kernel f(cos θ) on the unit sphere for the degrees 0 to `degrees`.

    Args:
        profile: f, a function from cosines (m,) to values (m,).
        dim: Dimension d of the space that contains the sphere, above 2; need not be an integer.
        degrees: Highest degree, at most 200.

    Raises:
        UserError: For values out of range.

    Example:
        >>> import numpy as np
        >>> from linearized.learning_theory.sphere import sphere_spectrum
        >>> values, counts = sphere_spectrum(lambda cosine: cosine, 10, 3)[:2]  # the kernel of linear functions
        >>> np.round(counts[:3]).astype(int).tolist()
        [1, 10, 54]
        >>> np.allclose(values[:3], [0, 1 / 10, 0])
        True
    """
    if not 2 < dim < np.inf or not 0 <= degrees <= HIGHEST:
        raise UserError(f"Spectra need a dimension above 2 and degrees of 0 to {HIGHEST}. Received: {dim}, {degrees}.")
    reach = min(np.pi / 2, (10 + 2 * np.sqrt(2 * degrees)) / np.sqrt(dim))  # the density outside is negligible
    nodes, weights = _legendre()
    angles = np.pi / 2 + reach * nodes
    density = reach * weights * np.exp((dim - 2) * np.log(np.sin(angles)))
    cosines = np.cos(angles)
    weighted = density / density.sum() * profile(cosines)
    found, before, here = [], np.zeros_like(cosines), np.ones_like(cosines)
    for degree in range(degrees + 1):
        found.append(float(weighted @ here))
        after = ((2 * degree + dim - 2) * cosines * here - degree * before) / (degree + dim - 2)
        before, here = here, after
    return SphereSpectrum(np.array(found), multiplicities(dim, degrees))


@functools.cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    return roots_legendre(NODES)


def multiplicities(dim: float, degrees: int) -> Float64[np.ndarray, " degrees"]:
    """Return the number of independent spherical harmonics of each degree.

    Args:
        dim: Dimension of the space that contains the sphere, above 2; need not be an integer.
        degrees: Highest degree L.

    Returns:
        The numbers of the degrees 0 to L, (L + 1,), as floats.
    """
    degree = np.arange(1, degrees + 1)
    log_count = gammaln(degree + dim - 2) - gammaln(degree + 1) - gammaln(dim - 1) + np.log(2 * degree + dim - 2)
    return np.concatenate([[1.0], np.exp(log_count)])


def effective_dimension(variances: Float64[np.ndarray, " d"], rows: int = 0) -> float:
    """Return the effective dimension (tr Σ)²/tr Σ² of inputs with covariance Σ; it is d if all d eigenvalues are equal.

    Args:
        variances: Eigenvalues of Σ, at least 0.
        rows: Number n of rows from which Σ was estimated; tr Σ² is then corrected for its bias of (tr Σ)²/n. 0: Σ is
            exact.

    Returns:
        The effective dimension; infinity if the correction is at least tr Σ².

    Raises:
        UserError: If an eigenvalue is negative, or all are 0.
    """
    if not len(variances) or (variances < 0).any() or not variances.sum() > 0:
        raise UserError("An effective dimension needs variances of at least 0 that are not all 0.")
    share = float(np.square(variances).sum() / variances.sum() ** 2) - (1 / rows if rows else 0.0)
    return 1 / share if share > 0 else np.inf
