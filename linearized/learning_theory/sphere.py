"""Exact spectra of rotation-invariant kernels on the unit sphere: one eigenvalue for each degree of polynomials.

The eigenfunctions of k(x, z) = f(cos θ) are the spherical harmonics. By the Funk-Hecke formula those of degree ℓ share
the eigenvalue λ_ℓ = E[f(t) P_ℓ(t)], where t is a coordinate of a uniform point, of density proportional to
(1 - t²)^((d-3)/2), and P_ℓ the Gegenbauer polynomial of parameter (d - 2)/2 with P_ℓ(1) = 1. The expectation is a
Gauss-Legendre sum over the angle, in which kernels of ReLU networks are smooth up to the ends, so that it converges
fast where a sum over t does not.

The formulas also hold for dimensions that are not integers. For what a kernel learns degree by degree, inputs of
covariance Σ behave like those on a sphere of the effective dimension (tr Σ)²/tr Σ².
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
    """The spectrum of a kernel on the sphere by degree 0, 1, ..., L.

    Attributes:
        eigenvalues: λ_ℓ, each once. Some are negative if the function is not a positive semi-definite kernel.
        multiplicities: Number of independent harmonics of each degree, as floats.
    """

    eigenvalues: np.ndarray
    multiplicities: np.ndarray

    def shares(self) -> np.ndarray:
        """Return the share of each degree in f(1), the trace of the kernel; higher degrees have the rest."""
        return self.eigenvalues * self.multiplicities


def sphere_spectrum(profile: Profile, dim: float, degrees: int) -> SphereSpectrum:
    """Return the eigenvalues of f(cos θ) on the sphere in `dim` dimensions for the degrees 0 to `degrees`.

    Args:
        profile: f, from cosines (m,) to values (m,).
        dim: Dimension d of the space that contains the sphere, above 2.
        degrees: Highest degree.

    Raises `UserError` for values out of range.
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
    """Return the number of spherical harmonics of each degree from 0 to `degrees` in `dim` dimensions."""
    degree = np.arange(1, degrees + 1)
    log_count = gammaln(degree + dim - 2) - gammaln(degree + 1) - gammaln(dim - 1) + np.log(2 * degree + dim - 2)
    return np.concatenate([[1.0], np.exp(log_count)])


def effective_dimension(variances: Float64[np.ndarray, " d"], rows: int = 0) -> float:
    """Return (tr Σ)²/tr Σ² from the eigenvalues of the covariance Σ; d if all are equal.

    Args:
        variances: Eigenvalues of Σ.
        rows: Number of rows from which Σ was estimated, to correct the bias (tr Σ)²/n of tr Σ²; 0: Σ is exact.
    """
    if not len(variances) or (variances < 0).any() or not variances.sum() > 0:
        raise UserError("An effective dimension needs variances of at least 0, some of them above.")
    share = float(np.square(variances).sum() / variances.sum() ** 2) - (1 / rows if rows else 0.0)
    return 1 / share if share > 0 else np.inf
