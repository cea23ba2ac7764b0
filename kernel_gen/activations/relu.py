"""ReLU and its duals: the arc-cosine kernels of order 1 and 0 (Cho & Saul, NeurIPS 2009, eq. 6 and 4).

(u, v) ~ N(0, [[k11, k12], [k12, k22]]) are the inputs of the ReLU. For a block (n1, n2) of a Gram matrix, the variances
k11 and k22 are vectors (n1,) and (n2,). The function `polynomials` returns coefficients of two polynomials. Faster
programs compute both kernels from these and one square root, without an arccos.
"""

import numpy as np
from numpy.polynomial import chebyshev
from scipy.special import spherical_jn

from linearized.base.scalar_functions import relu as function  # noqa: F401 - the function f(x) of this module's duals
from linearized.base.shapes import Float, Float64


def dual(
    k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
) -> Float[np.ndarray, "n1 n2"]:
    """Return E[relu(u) relu(v)] of a block of normal pairs (u, v), (n1, n2); 0 where a variance is 0.

    Args:
        k12: Covariances (n1, n2) of u and v.
        k11: Variances (n1,) of u.
        k22: Variances (n2,) of v.
    """
    norm, cos = _norm_and_cos(k12, k11, k22)
    return norm * (np.sqrt(1 - cos**2) + cos * (np.pi - np.arccos(cos))) / (2 * np.pi)


def slope(
    k12: Float[np.ndarray, "n1 n2"], k11: Float[np.ndarray, " n1"], k22: Float[np.ndarray, " n2"]
) -> Float[np.ndarray, "n1 n2"]:
    """Return E[relu'(u) relu'(v)] of a block of normal pairs (u, v), (n1, n2).

    It is the derivative of `dual` with respect to k12, and 1/4 where a variance is 0.

    Args:
        k12: Covariances (n1, n2) of u and v.
        k11: Variances (n1,) of u.
        k22: Variances (n2,) of v.
    """
    _, cos = _norm_and_cos(k12, k11, k22)
    return (np.pi - np.arccos(cos)) / (2 * np.pi)


def _norm_and_cos(k12: np.ndarray, k11: np.ndarray, k22: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    norm = np.sqrt(k11)[:, None] * np.sqrt(k22)[None, :]
    cos = np.divide(k12, norm, out=np.zeros_like(norm), where=norm > 0)
    return norm, np.clip(cos, -1, 1)  # rounding can push |cos| past 1, and arccos to NaN


def polynomials(degree: int) -> tuple[Float64[np.ndarray, " terms"], Float64[np.ndarray, " terms"]]:
    """Return the coefficients of two polynomials P and S of degree `degree`, from which the ReLU's duals are computed.

    For a correlation c with a = `|c|`, P and S are polynomials in the variable 2a - 1 such that

        arccos(a) / π = √(1-a) P        κ₁(c) = max(c, 0) + √(1-a) (1-a) S

    where κ₁(c) = (√(1-c²) + c (π - arccos c)) / π, so that E[relu(u) relu(v)] = √(k11 k22) κ₁(c) / 2. For c < 0,
    arccos(c) = π - arccos(-c). P and S are interpolated at the Chebyshev nodes of a in [0, 1]. The interpolated
    functions are smooth there, with the nearest singularity at a = -1, so the errors are about 5.8^-degree: at degree 7
    they are 9e-9 for P and 8e-10 for S, at degree 18 they are 3e-16 for both.

    Returns: The coefficients of P and those of S, two arrays (degree + 1,), from the highest power down.
    """
    u = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    a = (1 + u) / 2
    angle = 2 * np.arcsin(np.sqrt((1 - a) / 2))  # arccos(a), in full precision near a = 1
    # sin t - t cos t = t² j₁(t), again without the cancellation at small angles.
    values = angle / np.sqrt(1 - a), angle**2 * spherical_jn(1, angle) / (1 - a) ** 1.5
    first, second = (chebyshev.cheb2poly(chebyshev.chebfit(u, value / np.pi, degree))[::-1] for value in values)
    return first, second
