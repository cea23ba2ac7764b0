"""Gradients of expansions in the kernels of ReLU networks of infinite width, in closed form.

k(x, z) depends on p = x·z, s = ‖x‖² and ‖z‖² alone, so its gradient in x is ∂k/∂p · z + 2 ∂k/∂s · x. Both derivatives
are computed layer by layer, together with the kernel. Let Σ be the covariance (NNGP) of x and z before a ReLU, u and v
their variances there, c = Σ/√(uv), κ₀(c) = 1 - arccos(c)/π and κ₁(c) = (√(1-c²) + c (π - arccos c))/π. Then κ₁' = κ₀
and κ₀' = 1/(π√(1 - c²)), so that

    d(√(uv) κ₁) = κ₀ dΣ + (√(uv) κ₁ - κ₀ Σ)/(2u) du,    dκ₀ = κ₀' (dΣ/√(uv) - c/(2u) du)

At c = ±1, where κ₀' is unbounded, it is set to 0.
"""

import dataclasses

import numpy as np

from kernel_gen.rows import Rows
from linearized.base.shapes import Float64

ALIGNED = 1e-14  # largest 1 - c² at which two rows count as aligned; the derivative of their angle is set to 0


@dataclasses.dataclass
class _Slopes:
    """Values and two derivatives of a function of pairs of m points x and n rows z, three arrays (m, n).

    The derivatives are those with respect to p = x·z (`by_product`) and s = ‖x‖² (`by_square`).
    """

    value: np.ndarray
    by_product: np.ndarray
    by_square: np.ndarray


def gradients(
    points: Rows, rows: Rows, alpha: Float64[np.ndarray, "n k"], *, hidden: int, tangent: bool, first: float,
    weight_var: float, bias_var: float,
) -> Float64[np.ndarray, "k m d"]:  # fmt: skip
    """Return the gradients in x of the expansions Σ_i alpha_ic k(x, x_i) at m points, (k, m, d) in float64.

    For rows of d numbers it costs 2mnd operations for the inner products, 2mnd for each output c, and about 60 mn for
    each hidden layer. It needs about 100 mn bytes of memory.

    Args:
        points: The m points with their squared norms.
        rows: The n rows x_i of the expansions.
        alpha: Coefficients (n, k) of the expansions, one column for each output c.
        hidden: Number of ReLU layers.
        tangent: Whether k is the tangent kernel (NTK); otherwise it is the covariance (NNGP).
        first: Factor of x·z in the first layer.
        weight_var: Variance w² of the weights.
        bias_var: Variance b² of the biases.
    """
    x, z = points.values.astype(np.float64), rows.values.astype(np.float64)
    u, v = first * points.squares[:, None] + bias_var, first * rows.squares + bias_var
    u_slope = first  # du/ds, the same for all rows
    products = x @ z.T
    sigma = _Slopes(first * products + bias_var, np.full_like(products, first), np.zeros_like(products))
    theta = dataclasses.replace(sigma)
    half = weight_var / 2
    for _ in range(hidden):
        safe = np.where(u > 0, u, 1)
        norms = np.sqrt(u * v)
        inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
        cosine = np.clip(sigma.value * inverse, -1, 1)
        sine2 = 1 - cosine**2
        angle = np.arccos(cosine)
        kappa0 = 1 - angle / np.pi
        dual = (np.sqrt(sine2) + cosine * (np.pi - angle)) * norms / np.pi  # √(uv) κ₁
        slope0 = np.divide(1 / np.pi, np.sqrt(sine2), out=np.zeros_like(sine2), where=sine2 > ALIGNED)
        cosine_by_square = sigma.by_square * inverse - cosine / (2 * safe) * u_slope
        following = _Slopes(
            half * dual + bias_var, half * kappa0 * sigma.by_product,
            half * (kappa0 * sigma.by_square + (dual - kappa0 * sigma.value) / (2 * safe) * u_slope),
        )  # fmt: skip
        theta = _Slopes(
            half * kappa0 * theta.value + following.value,
            half * (kappa0 * theta.by_product + slope0 * sigma.by_product * inverse * theta.value)
            + following.by_product,
            half * (kappa0 * theta.by_square + slope0 * cosine_by_square * theta.value) + following.by_square,
        )
        sigma, u, v, u_slope = following, half * u + bias_var, half * v + bias_var, half * u_slope
    used = theta if tangent else sigma
    found = np.empty((alpha.shape[1], *x.shape))
    for output, weights in zip(found, alpha.T, strict=True):
        np.add(used.by_product @ (weights[:, None] * z), 2 * (used.by_square @ weights)[:, None] * x, out=output)
    return found
