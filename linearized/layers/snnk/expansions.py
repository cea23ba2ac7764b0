"""Expansions of an activation f(z) in powers of z, or in sines and cosines of z.

Random features factorise (w·x)ⁿ and e^{iω w·x} into a function of the weights w and a function of the inputs x
("Scalable Neural Network Kernels", ICLR 2024). Therefore f(w·x + b) is first written as a sum of terms of one of these
kinds. sin and cos are exact, with one frequency. Other functions are approximated on [-reach, reach]. The largest
absolute errors on this interval, for reach 3, are:

| f        | powers up to 4 | up to 8 | up to 12 | frequencies 0..4 | 0..8 |
|----------|--------|--------|--------|--------|--------|
| tanh     | 1.6e-1 | 2.5e-2 | 3.5e-3 | 1.0e-2 | 1.1e-4 |
| sigmoid  | 1.2e-2 | 3.3e-4 | 8.6e-6 | 1.4e-4 | 7.3e-8 |
| softplus | 5.0e-3 | 7.5e-5 | 1.4e-6 | 6.4e-4 | 4.0e-7 |
| gelu     | 6.2e-2 | 3.1e-3 | 8.6e-5 | 1.1e-3 | 4.1e-7 |

Powers are the default although frequencies are more accurate: the random features of powers have a smaller variance,
because high powers have small coefficients.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from linearized.base.activations import OwnFunction
from linearized.base.own_functions import is_reference

RELU = "relu"
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "softplus": lambda z: np.logaddexp(0, z),
    "gelu": lambda z: z * special.ndtr(z),
}
TRIGONOMETRIC = ("sin", "cos")
ACTIVATIONS = (RELU, *TRIGONOMETRIC, *FUNCTIONS)
KINDS = ("power", "fourier")
NODES = 512  # number of points of the least-squares fit of frequencies


class Expansion:
    """Base class of functions f(z) that are sums of simple terms.

    Two expansions of the same class are equal (`==`) if their coefficients are equal.
    """

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    @classmethod
    def from_config(cls, config):
        """Return the expansion that `get_config` described; Keras calls this when it loads a model."""
        return cls(**config)

    def __hash__(self):
        return hash(repr(self.get_config()))


@keras.saving.register_keras_serializable("linearized")
class Power(Expansion):
    """Power series f(z) = Σₙ aₙ zⁿ.

    Args:
        coefficients: a₀, a₁, ..., finite; at least one after a₀ is not 0.

    Raises:
        ValueError: For other coefficients.
    """

    def __init__(self, coefficients: Sequence[float]):
        self.coefficients = np.trim_zeros(_finite("coefficients", coefficients), "b")
        if len(self.coefficients) < 2:
            raise ValueError(f"A constant needs no features. Received: coefficients={coefficients}.")

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Return f(z) elementwise for an array z."""
        return np.polynomial.polynomial.polyval(z, self.coefficients)

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        return {"coefficients": self.coefficients.tolist()}


@keras.saving.register_keras_serializable("linearized")
class Fourier(Expansion):
    """Trigonometric sum f(z) = Σⱼ cⱼ cos(ωⱼ z) + sⱼ sin(ωⱼ z).

    Args:
        frequencies: ωⱼ, not negative, each once.
        cosines: cⱼ, one per frequency.
        sines: sⱼ, one per frequency.

    Raises:
        ValueError: For lists of different lengths, numbers that are not finite, and a constant f.
    """

    def __init__(self, frequencies: Sequence[float], cosines: Sequence[float], sines: Sequence[float]):
        self.frequencies = np.asarray(frequencies, np.float64)
        self.cosines, self.sines = np.asarray(cosines, np.float64), np.asarray(sines, np.float64)
        if not len(self.frequencies) == len(self.cosines) == len(self.sines):
            raise ValueError("`frequencies`, `cosines` and `sines` must have one length. Received: "
                             f"{len(self.frequencies)}, {len(self.cosines)} and {len(self.sines)}.")  # fmt: skip
        _finite("cosines and sines", [*self.cosines, *self.sines])
        if (self.frequencies < 0).any() or len(set(self.frequencies.tolist())) != len(self.frequencies):
            raise ValueError(f"`frequencies` must be different and not negative. Received: {frequencies}.")
        if not np.any(self.frequencies * np.hypot(self.cosines, self.sines)):
            raise ValueError(f"A constant needs no features. Received: frequencies={frequencies}.")

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Return f(z) elementwise for an array z."""
        angles = np.asarray(z)[..., None] * self.frequencies
        return np.cos(angles) @ self.cosines + np.sin(angles) @ self.sines

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        names = ("frequencies", "cosines", "sines")
        return {name: getattr(self, name).tolist() for name in names}


def _finite(what: str, values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"`{what}` must be a list of finite numbers. Received: {values.tolist()}.")
    return values


def power(function: Callable[[np.ndarray], np.ndarray], reach: float = 3.0, degree: int = 8) -> Power:
    """Return the polynomial that interpolates a function at the Chebyshev nodes of [-reach, reach].

    On the interval, the largest error of this polynomial is at most O(log(degree)) times the smallest error of any
    polynomial of this degree. As `reach` goes to 0, the polynomial becomes the Taylor polynomial.

    Args:
        function: Function on arrays.
        reach: Half the length of the interval.
        degree: Degree of the polynomial.
    """
    series = chebyshev.chebinterpolate(lambda t: np.asarray(function(reach * t), np.float64), degree)
    coefficients = chebyshev.cheb2poly(series)
    coefficients[np.abs(coefficients) < 1e-12 * np.abs(coefficients).max()] = 0.0  # for odd or even functions
    return Power(coefficients / reach ** np.arange(degree + 1.0))


def fourier(function: Callable[[np.ndarray], np.ndarray], reach: float = 3.0, degree: int = 8) -> Fourier:
    """Return the trigonometric sum of the frequencies jπ/(2 reach), j = 0..degree, that fits a function best.

    The fit is by least squares at 512 Chebyshev nodes of [-reach, reach]. The period of the sum is twice the length of
    the interval, so the function need not be periodic (a Fourier extension). The error falls geometrically with the
    degree for smooth functions. Singular values below 1e-7 of the largest are cut, which keeps the coefficients small.

    Args:
        function: Function on arrays.
        reach: Half the length of the interval.
        degree: Largest j.
    """
    nodes = reach * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    frequencies = np.pi / (2 * reach) * np.arange(degree + 1)
    angles = nodes[:, None] * frequencies
    basis = np.hstack([np.cos(angles), np.sin(angles)])
    found = np.linalg.lstsq(basis, np.asarray(function(nodes), np.float64), rcond=1e-7)[0]
    return Fourier(frequencies, *np.split(found, 2))


def error(expansion: Expansion, function: Callable[[np.ndarray], np.ndarray], reach: float = 3.0) -> float:
    """Return the largest `|f(z) - expansion(z)|` at 4,001 points of [-reach, reach].

    More random features do not reduce this part of the error of an SNNK.

    Args:
        expansion: Expansion of f.
        function: f, on arrays.
        reach: Half the length of the interval.
    """
    z = np.linspace(-reach, reach, 4001)
    return float(np.abs(expansion(z) - np.asarray(function(z), np.float64)).max())


def snnk_function(text: str) -> str | Callable[[np.ndarray], np.ndarray]:
    """Convert the activation that a user gave on the command line to the argument `activation` of SNNK layers.

    Args:
        text: Name of an activation, such as "relu", which is returned unchanged; or `package.module:function`, which is
            converted to this function on NumPy arrays (see `linearized.base.activations.OwnFunction`).
    """
    return OwnFunction(text).on_numpy if is_reference(text) else text


def expand(activation, kind: str = "power", reach: float = 3.0, degree: int = 8) -> Expansion | None:
    """Return an activation as a power series or as a sum of sines and cosines; None for "relu".

    The ReLU has neither a power series nor a short Fourier series; it has features of its own (the arc-cosine kernel).

    Args:
        activation: "relu", "sin", "cos", "tanh", "sigmoid", "softplus" or "gelu"; a function on arrays; or an
            `Expansion`, which is returned as it is.
        kind: "power" or "fourier", for functions other than relu, sin and cos.
        reach: Half the length of the interval [-reach, reach] on which the expansion approximates the function.
        degree: Largest power, or number of frequencies above 0.

    Raises:
        ValueError: For an unknown name or kind, and for a reach or degree that is too small.
    """
    if isinstance(activation, Expansion) or activation == RELU:
        return activation if isinstance(activation, Expansion) else None
    if activation in TRIGONOMETRIC:
        return Fourier([1.0], *(([0.0], [1.0]) if activation == "sin" else ([1.0], [0.0])))
    if isinstance(activation, str) and activation not in FUNCTIONS:
        raise ValueError(f"`activation` must be one of {', '.join(ACTIVATIONS)}, a `Power` or a `Fourier`. "
                         f"Received: {activation!r}.")  # fmt: skip
    if kind not in KINDS:
        raise ValueError(f"`expansion` must be one of {', '.join(KINDS)}. Received: {kind!r}.")
    if reach <= 0 or degree < 1:
        raise ValueError(f"`reach` must be above 0 and `degree` at least 1. Received: {reach} and {degree}.")
    function = FUNCTIONS[activation] if isinstance(activation, str) else activation
    return (power if kind == "power" else fourier)(function, reach, degree)
