"""Hermite coefficients a_k(σ) of a function f: f(σz) = Σ_k a_k(σ) h_k(z) for z ~ N(0, 1) and any σ > 0.

h_k = He_k / √k! are the normalised probabilists' Hermite polynomials, and a_k(σ) = E[f(σz) h_k(z)]. Mehler's formula
turns the series into duals: E[f(σ₁u) f(σ₂v)] = Σ_k a_k(σ₁) a_k(σ₂) c^k for standard normal u and v of correlation c.
Truncation at a degree omits Σ_{k>degree} a_k² at c = 1, which is the theoretical error on inputs of unit norm.

The integrals are computed on `|z|` <= 16 by Gauss-Legendre panels between the kinks of f. With φ the normal density,
h_k √φ is bounded. It is computed by its recursion, which is therefore stable at any degree. For f of bounded variation
a_k has an error of 1e-14, up to degree 1,000 and beyond.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from linearized.base.shapes import Float64

REACH = 16.0  # limit of the integrals: the normal density there is 1e-56, negligible even for f growing as exp(5|z|)
PANEL, ORDER = 0.5, 24  # largest width of a panel, and number of its Gauss-Legendre nodes


def coefficients(
    function: Callable, degree: int, std: float = 1.0, kinks: Sequence[float] = (0.0,)
) -> Float64[np.ndarray, " terms"]:
    """Return a_k = E[f(σz) h_k(z)] for k = 0 ... degree and z ~ N(0, 1), an array of degree + 1 numbers.

    Args:
        function: The function f over NumPy arrays, entry by entry.
        degree: Largest degree k.
        std: Standard deviation σ of the argument of f.
        kinks: Points where f is not smooth; integrals are split there.

    It costs 1,600 evaluations of f and (degree + 1) · 1,600 operations. Above degree 1,000 the quadrature has more
    points, and their number grows as √degree.
    """
    z, weights = nodes(tuple(kink / std for kink in kinks if std and abs(kink) < REACH * std), degree)
    values = np.asarray(function(std * z), np.float64)
    return np.array([weights @ (values * column) for column in _weighted(z, degree)])


def basis(z: Float64[np.ndarray, " m"], degree: int) -> Float64[np.ndarray, "terms m"]:
    """Return φ(z) h_k(z) for k = 0 ... degree, (degree + 1, m), with the normal density φ and Hermite polynomials h_k.

    h_k = He_k / √k! are normalised. No intermediate value overflows.

    Args:
        z: Points (m,).
        degree: Largest degree k.
    """
    return np.stack(list(_weighted(z, degree)))


def polynomials(z: np.ndarray, degree: int) -> np.ndarray:
    """Return the normalised Hermite polynomials h_k(z) = He_k(z) / √k! for k = 0 ... degree along a new first axis.

    Args:
        z: Points, an array of any shape.
        degree: Largest degree k.
    """
    columns = [np.ones_like(z), z][: degree + 1]
    for k in range(2, degree + 1):
        columns.append((z * columns[-1] - np.sqrt(k - 1) * columns[-2]) / np.sqrt(k))
    return np.stack(columns)


def _weighted(z: np.ndarray, degree: int):
    """Yield φ(z) h_k(z) for k = 0 ... degree, with the normal density φ and the normalised Hermite polynomials h_k.

    They are computed by the recursion of √φ h_k, which stays below 1.
    """
    half = np.exp(-(z**2) / 4) / (2 * np.pi) ** 0.25
    before, now = np.zeros_like(z), half
    for k in range(degree + 1):
        yield half * now
        before, now = now, (z * now - np.sqrt(k) * before) / np.sqrt(k + 1)


@functools.lru_cache(maxsize=64)
def nodes(kinks: tuple[float, ...], degree: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights, two arrays (m,), of a quadrature rule for integrals over z with `|z|` <= REACH.

    The interval is divided into panels, each with a Gauss-Legendre rule of its own.

    Args:
        kinks: Points at which panels end, because the integrand is not smooth there.
        degree: Largest degree k of the Hermite polynomials h_k that the rule resolves.
    """
    width = min(PANEL, 16 / np.sqrt(degree + 1))
    ends = np.unique([-REACH, *(kink for kink in kinks if abs(kink) < REACH), REACH])
    edges = [np.linspace(a, b, int(np.ceil((b - a) / width)) + 1) for a, b in itertools.pairwise(ends)]
    x, w = np.polynomial.legendre.leggauss(ORDER)
    points = [(e[:-1, None] + e[1:, None]) / 2 + np.diff(e)[:, None] / 2 * x for e in edges]
    weights = [np.diff(e)[:, None] / 2 * w for e in edges]
    return tuple(np.concatenate([part.ravel() for part in parts]) for parts in (points, weights))
