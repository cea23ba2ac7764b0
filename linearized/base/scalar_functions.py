"""Elementwise activation functions of networks, with notes on their dual kernels.

Each function takes an array `x` and the namespace `xp` of array functions to use: numpy, jax.numpy or keras.ops. The
docstring of each function is its formula, which error messages and tables of the command line show. The dual kernel of
f for inputs x and z is E[f(u) f(v)], where u and v are jointly Gaussian with means 0, variances ‖x‖² and ‖z‖², and
covariance <x, z>; some docstrings, such as that of `rbf`, add its formula. `linearized.base.activations` lists these
functions by name and parses their arguments.
"""

import functools
import importlib
import math
from typing import Any

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., NeurIPS 2017


def sin(x: Any, xp: Any, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Any:
    """a sin(b x + c)"""
    return a * xp.sin(b * x + c)


def cos(x: Any, xp: Any, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Any:
    """a cos(b x + c)"""
    return a * xp.cos(b * x + c)


def rbf(x: Any, xp: Any, gamma: float = 1.0) -> Any:
    """√2 sin(√(2γ) x + π/4), whose dual kernel is exp(-γ ‖x - z‖²)"""
    return math.sqrt(2) * xp.sin(math.sqrt(2 * gamma) * x + math.pi / 4)


def erf(x: Any, xp: Any, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Any:
    """a erf(b x) + c"""
    return a * _erf(b * x, xp) + c


def sigmoid_like(x: Any, xp: Any) -> Any:
    """½ erf(x / 2.402...) + ½, the erf that is nearest to a sigmoid"""
    return 0.5 * _erf(x / 2.4020563531719796, xp) + 0.5


def gelu(x: Any, xp: Any) -> Any:
    """x Φ(x), where Φ is the normal distribution function"""
    return 0.5 * x * (1 + _erf(x / math.sqrt(2), xp))


def gelu_tanh(x: Any, xp: Any) -> Any:
    """gelu with the approximation Φ(x) = ½ (1 + tanh(√(2/π) (x + 0.044715 x³)))"""
    return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def exp(x: Any, xp: Any, a: float = 1.0, b: float = 1.0) -> Any:
    """a exp(b x)"""
    return a * xp.exp(b * x)


def gaussian(x: Any, xp: Any, a: float = 1.0, b: float = -1.0) -> Any:
    """a exp(b x²); if b is above 0, its dual kernel exists only for inputs of variance below 1/(4b)"""
    return a * xp.exp(b * x * x)


def exp_normalized(x: Any, xp: Any, gamma: float = 1.0, shift: float = -1.0) -> Any:
    """exp(√γ x + γ(shift - 1)/2); for inputs of variance 1 and correlation c its dual kernel is exp(γ(c + shift))"""
    return xp.exp(math.sqrt(gamma) * x + gamma * (shift - 1) / 2)


def gabor(x: Any, xp: Any) -> Any:
    """exp(-x²) sin(x)"""
    return xp.exp(-x * x) * xp.sin(x)


def hermite(x: Any, xp: Any, degree: int = 2) -> Any:
    """the Hermite polynomial He_degree(x) / √(degree!), with the exact dual kernel for inputs of any variance"""
    before, now = 0.0 * x, 0.0 * x + 1.0
    for k in range(degree):
        before, now = now, (x * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return now


def unit_hermite(x: Any, xp: Any, degree: int = 2) -> Any:
    """the function hermite with the dual kernel of neural_tangents, (covariance)^degree, exact only for variance 1"""
    return hermite(x, xp, degree)


def monomial(x: Any, xp: Any, degree: int = 2) -> Any:
    """x^degree"""
    return functools.reduce(lambda power, _: power * x, range(degree), 0.0 * x + 1.0)


def polynomial(x: Any, xp: Any, *coefficients: float) -> Any:
    """c₀ + c₁ x + c₂ x² + ..., such as polynomial(0, 1, 0.5)"""
    return functools.reduce(lambda value, c: value * x + c, reversed(coefficients), 0.0 * x)


def rectified_monomial(x: Any, xp: Any, degree: int = 2) -> Any:
    """x^degree where x is above 0, else 0"""
    return step(x, xp) if degree == 0 else monomial(xp.maximum(x, 0), xp, degree)


def sign(x: Any, xp: Any) -> Any:
    """the sign of x: -1, 0 or 1"""
    return xp.sign(x)


def abs(x: Any, xp: Any) -> Any:
    """|x|"""
    return xp.abs(x)


def relu(x: Any, xp: Any) -> Any:
    """max(x, 0)"""
    return xp.maximum(x, 0)


def leaky_relu(x: Any, xp: Any, alpha: float = 0.2) -> Any:
    """x where x is above 0, else alpha x"""
    return xp.maximum(x, 0) + alpha * xp.minimum(x, 0)


def relu6(x: Any, xp: Any) -> Any:
    """min(max(x, 0), 6)"""
    return xp.minimum(xp.maximum(x, 0), 6)


def hard_sigmoid(x: Any, xp: Any) -> Any:
    """relu6(x + 3) / 6"""
    return relu6(x + 3, xp) / 6


def hard_silu(x: Any, xp: Any) -> Any:
    """x relu6(x + 3) / 6"""
    return x * hard_sigmoid(x, xp)


def hard_tanh(x: Any, xp: Any) -> Any:
    """x, limited to [-1, 1]"""
    return xp.minimum(xp.maximum(x, -1), 1)


def softsign(x: Any, xp: Any) -> Any:
    """x / (1 + |x|)"""
    return x / (1 + xp.abs(x))


def elu(x: Any, xp: Any, alpha: float = 1.0) -> Any:
    """x where x is above 0, else alpha (exp(x) - 1)"""
    return xp.maximum(x, 0) + alpha * xp.expm1(xp.minimum(x, 0))


def celu(x: Any, xp: Any, alpha: float = 1.0) -> Any:
    """x where x is above 0, else alpha (exp(x / alpha) - 1)"""
    return xp.maximum(x, 0) + alpha * xp.expm1(xp.minimum(x, 0) / alpha)


def selu(x: Any, xp: Any) -> Any:
    """the self-normalising elu, 1.0507 elu(x, alpha=1.6733)"""
    return SELU_SCALE * elu(x, xp, SELU_ALPHA)


def silu(x: Any, xp: Any) -> Any:
    """x / (1 + exp(-x))"""
    return x * sigmoid(x, xp)


def softplus(x: Any, xp: Any) -> Any:
    """log(1 + exp(x))"""
    return xp.logaddexp(x, 0.0 * x)


def log_sigmoid(x: Any, xp: Any) -> Any:
    """log(1 / (1 + exp(-x)))"""
    return -xp.logaddexp(-x, 0.0 * x)


def tanh(x: Any, xp: Any) -> Any:
    """tanh(x)"""
    return xp.tanh(x)


def sigmoid(x: Any, xp: Any) -> Any:
    """1 / (1 + exp(-x))"""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def step(x: Any, xp: Any) -> Any:
    """Compute the derivative of the ReLU, ½(sign(x) + 1), which is ½ at 0."""
    return 0.5 * (xp.sign(x) + 1)


def _erf(x: Any, xp: Any) -> Any:
    """Compute erf(x); for NumPy and jax.numpy, the function is in SciPy's and JAX's `scipy.special`."""
    if hasattr(xp, "erf"):
        return xp.erf(x)
    home = {"numpy": "scipy.special", "jax.numpy": "jax.scipy.special"}[xp.__name__]
    return importlib.import_module(home).erf(x)
