"""Registry of activation functions by name, and the parser of their names and arguments.

The functions themselves are in `linearized.base.scalar_functions`. `ACTIVATIONS` lists their names. `parse` reads a
name with optional numbers, such as gelu, leaky_relu(0.1), sin(a=1, b=2, c=0.5) or polynomial(0, 1, 0.5), without
evaluating it as code. It also accepts `package.module:function` for a user-defined function.
"""

import ast
import dataclasses
import inspect
import math
from typing import Any

from linearized.base import own_functions, scalar_functions
from linearized.base.errors import UserError
from linearized.base.reading import one_line
from linearized.base.registry import FunctionRegistry

ACTIVATION_HELP = (
    "of --model=NN, of --kernel=NTK, CNTK and STAX: a name, or with numbers: leaky_relu(0.1), or "
    "package.module:function, your own f(x), or f(x, xp) with the array functions xp"
)
NOT_ELEMENTWISE = ("glu", "geglu", "reglu", "swiglu", "softmax", "log_softmax", "sparsemax", "maxout")
MOST_DEGREE = {"rectified_monomial": 12}  # largest degree; 64 for others, where second moments still fit float64


@dataclasses.dataclass(frozen=True)
class Scalar:
    """An activation function of the registry together with the values of its arguments; calling it evaluates it.

    Attributes:
        name: Name in the registry, such as "leaky_relu".
        arguments: Pairs of name and value, such as ("alpha", 0.1), without those at their defaults; for "polynomial"
            the coefficients from degree 0 upwards.
    """

    name: str
    arguments: tuple[tuple[str, float | int] | float, ...] = ()

    @property
    def text(self) -> str:
        """Canonical text of the function, such as gelu, leaky_relu(alpha=0.1) or polynomial(0,1,0.5)."""
        words = [f"{_number(a)}" if isinstance(a, float) else f"{a[0]}={_number(a[1])}" for a in self.arguments]
        return f"{self.name}({','.join(words)})" if words else self.name

    def split(self) -> tuple[list[float], dict[str, float | int]]:
        """Return the coefficients (empty except for "polynomial") as a list, and the keyword arguments by name."""
        places = [a for a in self.arguments if isinstance(a, float)]
        return places, dict(a for a in self.arguments if not isinstance(a, float))

    def __call__(self, x: Any, xp: Any) -> Any:
        """Compute f(x) elementwise with the array functions of the namespace `xp`: numpy, jax.numpy or keras.ops."""
        places, named = self.split()
        return getattr(scalar_functions, self.name)(x, xp, *places, **named)


@dataclasses.dataclass(frozen=True)
class OwnFunction(Scalar):
    """A user-defined activation function f(x) or f(x, xp), imported by its text `package.module:function`."""

    @property
    def text(self) -> str:
        """The text `package.module:function` that refers to the function."""
        return self.name

    @property
    def given(self) -> Any:
        """The object to which the text refers: a function, or an object with closed-form kernels of an activation."""
        return own_functions.load_function(self.name)

    def __call__(self, x: Any, xp: Any) -> Any:
        """Compute f(x) elementwise.

        Args:
            x: Array of any shape.
            xp: Namespace of array functions, such as numpy; passed only to functions that take it.

        Raises `UserError` for an object that cannot be called, such as one that has only the closed-form kernels of an
        activation.
        """
        function = self.given
        if not callable(function):
            raise UserError(f"{self.name} is a dual without a function, which networks need.")
        return function(x, xp) if own_functions.takes_namespace(function) else function(x)

    def on_numpy(self, x: Any) -> Any:
        """Compute f(x) of a NumPy array in float64.

        Raises `UserError` if the function fails, changes the shape, or returns a value that is not finite.
        """
        import numpy as np  # imported here so that commands that only parse names start quickly

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
    """The registry of activations; a name may be followed by arguments, as in leaky_relu(0.1)."""

    def canonical(self, name: str) -> str:
        return parse(name).text

    def load(self, name: str) -> Scalar:
        return parse(name)

    def base(self, name: str) -> str:
        """Return the canonical spelling of the name of an activation, such as "leaky_relu".

        Args:
            name: Name without arguments.

        Raises `UserError` for an unknown name; the message lists each known name with its formula.
        """
        if name.lower() in NOT_ELEMENTWISE:
            raise UserError(
                f"{name} is not elementwise: each of its outputs depends on several inputs, so it has no dual. Take an "
                "elementwise activation, such as sigmoid or silu."
            )
        try:
            return super().canonical(name)
        except UserError:
            lines = [f"  {_signature(known)}: {inspect.getdoc(getattr(scalar_functions, known))}" for known in self]
            raise UserError(f"Unknown activation {name!r}. There are:\n" + "\n".join(lines)) from None


_NAMES = (
    "sin", "cos", "rbf", "erf", "sigmoid_like", "gelu", "gelu_tanh", "exp", "gaussian", "exp_normalized", "gabor",
    "hermite", "unit_hermite", "monomial", "polynomial", "rectified_monomial", "sign", "abs", "relu", "leaky_relu",
    "relu6", "hard_sigmoid", "hard_silu", "hard_tanh", "softsign", "elu", "celu", "selu", "silu", "softplus",
    "log_sigmoid", "tanh", "sigmoid",
)  # fmt: skip

ACTIVATIONS = _Activations(
    "activation",
    {name: f"linearized.base.scalar_functions:{name}" for name in _NAMES},
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
    """Parse an activation: a name, a name with numbers in parentheses, or the text `package.module:function`.

    The last form is imported at once and returned as an `OwnFunction`.

    Raises `UserError` for an unknown name (the message lists each known name with its formula), for invalid arguments,
    and for a function that cannot be imported.
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
    """Check the arguments of an activation function, and return them in the form in which a `Scalar` stores them.

    They are in the order of the function's signature; arguments at their defaults are left out.

    Args:
        name: Name in the registry.
        places: Values of the positional arguments.
        named: Values of the keyword arguments.

    Returns: Pairs (name, value), or for "polynomial" the coefficients.

    Raises `UserError` for arguments that the function does not take, and for values out of range.
    """
    signature = inspect.signature(getattr(scalar_functions, name))
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
    """Raise `UserError` if the value of the argument `key` of the function `name` is out of range."""
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
    arguments = list(inspect.signature(getattr(scalar_functions, name)).parameters.values())[2:]
    words = [f"{argument.name}={argument.default:g}" for argument in arguments]
    return f"{name}({', '.join(words)})" if words else name


def _number(value: float | int) -> str:
    return repr(int(value)) if float(value).is_integer() and math.fabs(value) < 1e15 else repr(value)
