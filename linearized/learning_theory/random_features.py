"""The test error of ridge regression on random features, predicted by two theories.

A model with N features is fitted to n rows of length d. `sphere_error` is the theorem of Mei and Montanari (arXiv
1908.05355, theorem 2). Rows and neurons are on the sphere and the target is linear plus noise; d, n and N are large,
with fixed ratios. The error shows double descent: at small ridges it has a peak at N = n.

`feature_error` is the random-features eigenframework (Simon, Karkada, Ghosh and Belkin, ICLR 2024, section 3), which
uses the eigenvalues of the kernel at infinite width and the coefficients of any target. Where both apply they agree.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from linearized.base.errors import UserError
from linearized.base.shapes import Float64


class ActivationMoments(NamedTuple):
    """Gaussian moments of an activation σ, from which the theory of random features on the sphere computes errors.

    Attributes:
        mean: E σ(u) for u ~ N(0, 1).
        slope: E u σ(u), the coefficient of its linear part.
        rest: Root of E σ(u)² - mean² - slope², the size of its nonlinear part.
    """

    mean: float
    slope: float
    rest: float


RELU = ActivationMoments(1 / np.sqrt(2 * np.pi), 0.5, float(np.sqrt(0.25 - 1 / (2 * np.pi))))


def sphere_error(
    features: float, rows: float, ridge: float, *, linear: float = 1.0, noise: float = 0.0, nonlinear: float = 0.0,
    activation: ActivationMoments = RELU,
) -> float:  # fmt: skip
    """Return the limit of the test error of random-features ridge regression on the sphere.

    Rows x are uniform on the sphere of radius √d. The N features are σ(θ·x/√d) with θ uniform on the same sphere. For
    the matrix Φ of the features of n train rows, the readout a minimises (1/n)‖y - Φa‖² + (N/d) λ‖a‖². The limit is
    that of large d, n and N with fixed ratios.

    Args:
        features: ψ₁ = N/d.
        rows: ψ₂ = n/d.
        ridge: λ, above 0. The ridgeless case is the limit of small λ; away from N = n, 1e-8 gives four correct digits.
        linear: F₁², the mean square of the target's linear part.
        noise: τ², the variance of the label noise. It affects the fitted function, but the returned error is that with
            respect to the noiseless target.
        nonlinear: F⋆², the mean square of the target's nonlinear part, which is not learned in this limit.
        activation: Moments of the activation σ.

    Raises:
        UserError: If a ratio or the ridge is not positive, or a mean square is negative.
    """
    if not (features > 0 and rows > 0 and ridge > 0 and min(linear, noise, nonlinear) >= 0):
        raise UserError(
            "The asymptotics need N/d, n/d and a ridge above 0, and squares of at least 0. Received: "
            f"{features}, {rows}, {ridge}, {linear}, {noise}, {nonlinear}."
        )
    zeta, one, two = activation.slope**2 / activation.rest**2, features, rows  # ζ², ψ₁, ψ₂
    chi = _chi(zeta, one, two, ridge / activation.rest**2)
    both = one * two
    zero = (
        -(chi**5) * zeta**3 + 3 * chi**4 * zeta**2 + (both - two - one + 1) * chi**3 * zeta**3
        - 2 * chi**3 * zeta**2 - 3 * chi**3 * zeta + (one + two - 3 * both + 1) * chi**2 * zeta**2
        + 2 * chi**2 * zeta + chi**2 + 3 * both * chi * zeta - both
    )  # fmt: skip
    bias = two * chi**3 * zeta**2 - two * chi**2 * zeta + both * chi * zeta - both
    variance = (
        chi**5 * zeta**3 - 3 * chi**4 * zeta**2 + (one - 1) * chi**3 * zeta**3 + 2 * chi**3 * zeta**2
        + 3 * chi**3 * zeta - (one + 1) * chi**2 * zeta**2 - 2 * chi**2 * zeta - chi**2
    )  # fmt: skip
    return float(linear * bias / zero + (noise + nonlinear) * variance / zero + nonlinear)


def _chi(zeta: float, one: float, two: float, ridge: float) -> float:
    """Return χ = ν₁ν₂ of Mei and Montanari at the point i√(ψ₁ψ₂λ), where ν₁ and ν₂ solve their fixed-point equations.

    Both ν are imaginary: ν₁ = i a and ν₂ = i b with a, b > 0. Let s = √(ψ₁ψ₂λ). The equations are a
    (s + b + ζ²b/(1 + ζ²ab)) = ψ₁ and b (s + a + ζ²a/(1 + ζ²ab)) = ψ₂. With p = ab they become s
    a = ψ₁ - p - ζ²p/(1 + ζ²p) and s b = ψ₂ - p - ζ²p/(1 + ζ²p). Therefore p is the root of (s a)(s b) = s² p for which
    both right-hand sides are positive, and χ = -p.

    Args:
        zeta: ζ², the square of the activation's linear part, divided by that of its nonlinear part.
        one: ψ₁ = N/d for N features.
        two: ψ₂ = n/d for n rows.
        ridge: λ, the ridge divided by the square of the activation's nonlinear part.
    """
    square = one * two * ridge

    def excess(p: float) -> float:
        taken = p + zeta * p / (1 + zeta * p)
        return (one - taken) * (two - taken) - square * p

    low, high = 0.0, min(one, two)
    for _ in range(200):  # bisect for the largest p at which both factors are positive
        middle = (low + high) / 2
        low, high = (middle, high) if middle + zeta * middle / (1 + zeta * middle) < min(one, two) else (low, middle)
    return -float(brentq(excess, 0.0, high, xtol=1e-300, rtol=1e-15))


def feature_error(
    eigenvalues: Float64[np.ndarray, " m"], coefficients: Float64[np.ndarray, "m k"], n: int, features: int,
    ridge: float, *, noise: float = 0.0, tail: float = 0.0,
) -> Float64[np.ndarray, " k"]:  # fmt: skip
    """Predict the test error of ridge regression on N random features of a kernel, for each of k outputs.

    Args:
        eigenvalues: λ, the eigenvalues of the kernel k(x, z) = E φ(x)φ(z) over random features φ, at infinite width.
        coefficients: v, the coefficients of each output's target in the orthonormal eigenfunctions, (m, k).
        n: Number of train rows.
        features: N, the number of features; the kernel of the fit is the mean of φ(x)φ(z) over them.
        ridge: ρ of (K + ρI)α = y for that kernel; not divided by n.
        noise: Variance of the label noise; the error includes it.
        tail: Sum of the eigenvalues of infinitely many further modes, each with an infinitely small eigenvalue. The
            target has no part in these modes.

    Returns:
        The errors (k,).

    Raises:
        UserError: If the ridge or a count is not positive.
    """
    if not (n > 0 and features > 0 and ridge > 0):
        raise UserError(f"Predictions need rows, features and a ridge above 0. Received: {n}, {features}, {ridge}.")

    def learned(gamma: float) -> float:
        return float((eigenvalues / (eigenvalues + gamma)).sum()) + tail / gamma

    def excess(log_gamma: float) -> float:
        gamma = np.exp(log_gamma)
        used = learned(gamma)
        # κ = γ(N - z)/N from the second equation; n - z = ρ/κ is the first
        return (n - used) * gamma * (features - used) / features - ridge

    most = min(n, features)
    total = float(eigenvalues.sum()) + tail
    high = np.log(total / most) + np.log(4.0)
    while excess(high) < 0:
        high += 1.0
    low = brentq(lambda log_gamma: learned(np.exp(log_gamma)) - most, np.log(total / most) - 200, high, xtol=1e-13)
    gamma = float(np.exp(brentq(excess, low, high, xtol=1e-13)))
    z = learned(gamma)
    q = float(np.square(eigenvalues / (eigenvalues + gamma)).sum())
    kappa = gamma * (features - z) / features
    factor = 1 - (q * (features - 2 * z) + z**2) / (n * (features - q))
    weight = gamma / (eigenvalues + gamma) - kappa * eigenvalues / (eigenvalues + gamma) ** 2 * features / (
        features - q
    )
    return ((weight[:, None] * np.square(coefficients)).sum(axis=0) + noise) / factor
