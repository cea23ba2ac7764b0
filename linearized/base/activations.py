"""Scalar functions over a passed namespace (numpy, jax.numpy, keras.ops), which networks and kernels share.

`ACTIVATIONS` lists them by the names of the command line, with arguments where they have any: gelu, leaky_relu(0.1),
sin(a=1, b=2, c=0.5), polynomial(0, 1, 0.5). `parse` reads such a text without evaluating it. It also reads
`package.module:function`, a function of the user's own.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import math
from typing import Any

from linearized.base import own_functions
from linearized.base.errors import UserError
from linearized.base.reading import one_line
from linearized.base.registry import FunctionRegistry

ACTIVATION_HELP = (
    "of --model=NN, of --kernel=NTK, CNTK and STAX: a name, or with numbers: leaky_relu(0.1), or "
    "package.module:function, your own f(x), or f(x, xp) with the array functions xp"
)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., NeurIPS 2017
NOT_ELEMENTWISE = ("glu", "geglu", "reglu", "swiglu", "softmax", "log_softmax", "sparsemax", "maxout")
MOST_DEGREE = {"rectified_monomial": 12}  # others 64: their second moments still fit float64


def sin(x: Any, xp: Any, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Any:
    """a sin(b x + c)"""
    return a * xp.sin(b * x + c)


def cos(x: Any, xp: Any, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Any:
    """a cos(b x + c)"""
    return a * xp.cos(b * x + c)


def rbf(x: Any, xp: Any, gamma: float = 1.0) -> Any:
    """√2 sin(√(2γ) x + π/4), whose dual is exp(-γ ‖x - z‖²)"""
    return math.sqrt(2) * xp.sin(math.sqrt(2 * gamma) * x + math.pi / 4)


def erf(x: Any, xp: Any, a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Any:
    """a erf(b x) + c"""
    return a * _erf(b * x, xp) + c


def sigmoid_like(x: Any, xp: Any) -> Any:
    """½ erf(x / 2.402...) + ½, the erf nearest to a sigmoid"""
    return 0.5 * _erf(x / 2.4020563531719796, xp) + 0.5


def gelu(x: Any, xp: Any) -> Any:
    """x Φ(x), Φ the normal distribution function"""
    return 0.5 * x * (1 + _erf(x / math.sqrt(2), xp))


def gelu_tanh(x: Any, xp: Any) -> Any:
    """the gelu with Φ(x) by tanh"""
    return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def exp(x: Any, xp: Any, a: float = 1.0, b: float = 1.0) -> Any:
    """a exp(b x)"""
    return a * xp.exp(b * x)


def gaussian(x: Any, xp: Any, a: float = 1.0, b: float = -1.0) -> Any:
    """a exp(b x²); for b above 0 its kernels exist for variances below 1/(4b)"""
    return a * xp.exp(b * x * x)


def exp_normalized(x: Any, xp: Any, gamma: float = 1.0, shift: float = -1.0) -> Any:
    """exp(√γ x + γ(shift - 1)/2): on inputs of variance 1 its dual is exp(γ(cos + shift))"""
    return xp.exp(math.sqrt(gamma) * x + gamma * (shift - 1) / 2)


def gabor(x: Any, xp: Any) -> Any:
    """exp(-x²) sin(x)"""
    return xp.exp(-x * x) * xp.sin(x)


def hermite(x: Any, xp: Any, degree: int = 2) -> Any:
    """the Hermite polynomial He_degree(x) / √(degree!), whose kernel is exact for any variance"""
    before, now = 0.0 * x, 0.0 * x + 1.0
    for k in range(degree):
        before, now = now, (x * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return now


def unit_hermite(x: Any, xp: Any, degree: int = 2) -> Any:
    """hermite with the published kernel k12^degree, which takes all variances for 1"""
    return hermite(x, xp, degree)


def monomial(x: Any, xp: Any, degree: int = 2) -> Any:
    """x^degree"""
    return functools.reduce(lambda power, _: power * x, range(degree), 0.0 * x + 1.0)


def polynomial(x: Any, xp: Any, *coefficients: float) -> Any:
    """c₀ + c₁ x + c₂ x² + ..., as polynomial(0, 1, 0.5)"""
    return functools.reduce(lambda value, c: value * x + c, reversed(coefficients), 0.0 * x)


def rectified_monomial(x: Any, xp: Any, degree: int = 2) -> Any:
    """x^degree where x is above 0, else 0"""
    return step(x, xp) if degree == 0 else monomial(xp.maximum(x, 0), xp, degree)


def sign(x: Any, xp: Any) -> Any:
    """-1, 0 or 1"""
    return xp.sign(x)


def abs(x: Any, xp: Any) -> Any:
    """|x|"""
    return xp.abs(x)


def relu(x: Any, xp: Any) -> Any:
    """max(x, 0)"""
    return xp.maximum(x, 0)


def leaky_relu(x: Any, xp: Any, alpha: float = 0.2) -> Any:
    """x, times alpha where x is below 0"""
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
    """x, cut at -1 and 1"""
    return xp.minimum(xp.maximum(x, -1), 1)


def softsign(x: Any, xp: Any) -> Any:
    """x / (1 + |x|)"""
    return x / (1 + xp.abs(x))


def elu(x: Any, xp: Any, alpha: float = 1.0) -> Any:
    """x, and alpha (exp(x) - 1) where x is below 0"""
    return xp.maximum(x, 0) + alpha * xp.expm1(xp.minimum(x, 0))


def celu(x: Any, xp: Any, alpha: float = 1.0) -> Any:
    """x, and alpha (exp(x / alpha) - 1) where x is below 0"""
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
    """The slope of the ReLU, ½(sign(x) + 1): ½ at 0, as published."""
    return 0.5 * (xp.sign(x) + 1)


def _erf(x: Any, xp: Any) -> Any:
    """erf, which NumPy and jax.numpy keep elsewhere."""
    if hasattr(xp, "erf"):
        return xp.erf(x)
    home = {"numpy": "scipy.special", "jax.numpy": "jax.scipy.special"}[xp.__name__]
    return importlib.import_module(home).erf(x)


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A function of the table with its arguments.

    Attributes:
        name: In the table.
        arguments: Values by name (without those at their defaults), or the coefficients by place.
    """

    name: str
    arguments: tuple[tuple[str, float | int] | float, ...] = ()

    @property
    def text(self) -> str:
        """One spelling for one function: gelu, leaky_relu(alpha=0.1), polynomial(0,1,0.5)."""
        words = [f"{_number(a)}" if isinstance(a, float) else f"{a[0]}={_number(a[1])}" for a in self.arguments]
        return f"{self.name}({','.join(words)})" if words else self.name

    def split(self) -> tuple[list[float], dict[str, float | int]]:
        """Arguments by place and by name."""
        places = [a for a in self.arguments if isinstance(a, float)]
        return places, dict(a for a in self.arguments if not isinstance(a, float))

    def __call__(self, x: Any, xp: Any) -> Any:
        """f(x), entry by entry, in the functions of `xp`."""
        places, named = self.split()
        return globals()[self.name](x, xp, *places, **named)


@dataclasses.dataclass(frozen=True)
class OwnFunction(Scalar):
    """A function of the user's own, f(x) or f(x, xp), by its reference `package.module:function`."""

    @property
    def text(self) -> str:
        """The reference."""
        return self.name

    @property
    def given(self) -> Any:
        """The function itself, or an activation object."""
        return own_functions.load_function(self.name)

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return f(x), entry by entry; `xp` is passed on where the function asks for it.

        Raises `UserError` for an object that is no function, such as a dual.
        """
        function = self.given
        if not callable(function):
            raise UserError(f"{self.name} is a dual without a function, which networks need.")
        return function(x, xp) if own_functions.takes_namespace(function) else function(x)

    def on_numpy(self, x: Any) -> Any:
        """Return f(x) of a NumPy array, in float64.

        Raises `UserError` where the function fails, and where a value is not finite or does not belong to its entry.
        """
        import numpy as np  # here, so that what only reads the names starts quickly

        try:
            values = np.asarray(self(x, np), np.float64)
        except UserError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise UserError(f"{self.name} cannot be called with a NumPy array: {one_line(error)}.") from error
        if values.shape != np.shape(x) or not np.isfinite(values).all():
            raise UserError(f"{self.name} must return a finite number for each entry of an array.")
        return values


class _Activations(FunctionRegistry):
    """The table; a name may come with arguments."""

    def canonical(self, name: str) -> str:
        return parse(name).text

    def load(self, name: str) -> Scalar:
        return parse(name)

    def base(self, name: str) -> str:
        """Return the table's spelling of a name without arguments.

        Raises `UserError` for a name that is not in the table, with a line for each one that is.
        """
        if name.lower() in NOT_ELEMENTWISE:
            raise UserError(
                f"{name} is not elementwise: each of its outputs depends on several inputs, so it has no dual. Take an "
                "elementwise activation, such as sigmoid or silu."
            )
        try:
            return super().canonical(name)
        except UserError:
            lines = [f"  {_signature(known)}: {inspect.getdoc(globals()[known])}" for known in self]
            raise UserError(f"Unknown activation {name!r}. There are:\n" + "\n".join(lines)) from None


_NAMES = (
    "sin", "cos", "rbf", "erf", "sigmoid_like", "gelu", "gelu_tanh", "exp", "gaussian", "exp_normalized", "gabor",
    "hermite", "unit_hermite", "monomial", "polynomial", "rectified_monomial", "sign", "abs", "relu", "leaky_relu",
    "relu6", "hard_sigmoid", "hard_silu", "hard_tanh", "softsign", "elu", "celu", "selu", "silu", "softplus",
    "log_sigmoid", "tanh", "sigmoid",
)  # fmt: skip

ACTIVATIONS = _Activations(
    "activation",
    {name: f"linearized.base.activations:{name}" for name in _NAMES},
    aliases={
        "swish": "silu",
        "hard_swish": "hard_silu",
        "relu_6": "relu6",
        "soft_sign": "softsign",
        "soft_plus": "softplus",
    },
    own="linearized.base.activations:OwnFunction",
)


def parse(text: str) -> Scalar:
    """The function that a name, or a name with numbers in brackets, stands for.

    A reference `package.module:function` is imported and becomes an `OwnFunction`.

    Raises `UserError` for an unknown name (with a line for each that there is), for arguments that do not fit, and for
    a reference that cannot be imported.
    """
    if own_functions.is_reference(text.strip()):
        own_functions.load_function(text.strip())
        return OwnFunction(text.strip())
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name) or any(word.arg is None for word in call.keywords):
            raise ValueError("not a name")
        places = [_value(argument) for argument in call.args]
        named = {word.arg: _value(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(
            "An activation is a name, or a name with numbers, such as gelu or leaky_relu(0.1). "
            f"Received: {text[:80]!r}."
        ) from error
    name = ACTIVATIONS.base(call.func.id)
    return Scalar(name, _checked(name, places, named))


def _value(node: ast.expr) -> float:
    value = ast.literal_eval(node)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _checked(name: str, places: list[float], named: dict[str, float]) -> tuple[tuple[str, float | int] | float, ...]:
    """The arguments of `name` in their order, without those at their defaults."""
    signature = inspect.signature(globals()[name])
    try:
        bound = signature.bind(None, None, *places, **named).arguments
    except TypeError as error:
        raise UserError(f"{name} is written {_signature(name)}: {error}.") from error
    values = {key: value for key, value in bound.items() if key not in ("x", "xp")}
    if name == "polynomial":
        values.setdefault("coefficients", ())
    for key, value in values.items():
        _check_argument(name, key, value)
    if name == "polynomial":
        return tuple(values["coefficients"])
    defaults = {key: signature.parameters[key].default for key in values}
    ordered = {key: values[key] for key in signature.parameters if key in values and values[key] != defaults[key]}
    return tuple((key, int(value) if key == "degree" else value) for key, value in ordered.items())


def _check_argument(name: str, key: str, value: Any) -> None:
    """Raises `UserError` for an argument outside the range of its kind."""
    if key == "coefficients":
        if not 1 <= len(value) <= 65:
            raise UserError(f"polynomial takes 1 to 65 coefficients. Received: {len(value)}.")
    elif key == "degree" and not (value == int(value) and 0 <= value <= MOST_DEGREE.get(name, 64)):
        raise UserError(f"{name} takes a whole degree of 0 to {MOST_DEGREE.get(name, 64)}. Received: {value:g}.")
    if key == "gamma" and not value >= 0:
        raise UserError(f"{name} takes {key} of at least 0. Received: {value:g}.")
    if key == "alpha" and name == "celu" and value == 0:
        raise UserError("celu divides by alpha. Give an alpha other than 0.")


def _signature(name: str) -> str:
    if name == "polynomial":
        return "polynomial(c0, c1, ...)"
    words = [f"{p.name}={p.default:g}" for p in list(inspect.signature(globals()[name]).parameters.values())[2:]]
    return f"{name}({', '.join(words)})" if words else name


def _number(value: float | int) -> str:
    return repr(int(value)) if float(value).is_integer() and math.fabs(value) < 1e15 else repr(value)
