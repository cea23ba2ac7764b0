"""Checks of the text that gives the architecture of the network for the kernel STAX. JAX is not imported.

The text is an expression of calls of the layers and combinators of `neural_tangents.stax`. The arguments of the calls
are numbers, strings, tuples and further calls. The syntax, the names of the layers and their arguments are checked. A
network for images must also have a layer such as `Flatten()`, because otherwise its outputs are not vectors. Everything
that depends on the preceding layers (shapes, and whether a kernel is known) is left to neural_tangents, which needs
JAX. `tests/kernel_gen/test_stax.py` compares the table of layers with the library.
"""

import ast
import inspect
from collections.abc import Callable
from typing import Any

from linearized.base.activations import parse as parse_activation
from linearized.base.errors import UserError
from linearized.base.own_functions import is_reference

MOST = 1000  # maximum of layers in total, of degrees, and of pixels along a side of a window
SHOWN = 200  # characters of an expression that an error message repeats
SPATIAL = {"Conv", "ConvTranspose", "ConvLocal", "AvgPool", "SumPool", "GlobalAvgPool", "GlobalSumPool"}
SPATIAL |= {"GlobalSelfAttention", "ImageResize"}  # layers that need rows as images
HEADS = {"Flatten", "GlobalAvgPool", "GlobalSumPool", "Index", "Aggregate", "DotGeneral"}  # may yield one vector

# Parameters of the layers, as neural_tangents.stax declares them.
_AXES = "batch_axis=0, channel_axis=-1"
_CONV = ("out_chan, filter_shape, strides=None, padding='VALID', W_std=1.0, b_std=None, dimension_numbers=None, "
         "parameterization='ntk', s=(1, 1)")  # fmt: skip
_SINE, _PAIR = "a=1.0, b=1.0, c=0.0", "a=1, b=1"
PARAMETERS = {
    "ABRelu": "a, b, do_stabilize=False", "Abs": "do_stabilize=False",
    "Aggregate": "aggregate_axis=None, batch_axis=0, channel_axis=-1, to_dense=None, implementation='DENSE'",
    "AvgPool": f"window_shape, strides=None, padding='VALID', normalize_edges=False, {_AXES}",
    "Conv": _CONV, "ConvLocal": _CONV, "ConvTranspose": _CONV, "Cos": _SINE,
    "Dense": f"out_dim, W_std=1.0, b_std=None, {_AXES}, parameterization='ntk', s=(1, 1)",
    "DotGeneral": f"*, lhs=None, rhs=None, dimension_numbers=(((), ()), ((), ())), precision=None, {_AXES}",
    "Dropout": "rate, mode='train'", "Elementwise": "fn=None, nngp_fn=None, d_nngp_fn=None",
    "ElementwiseNumerical": "fn, deg, df=None", "Erf": _SINE, "Exp": _PAIR,
    "ExpNormalized": "gamma=1, shift=-1, do_clip=False", "FanInConcat": "axis=-1", "FanInProd": "", "FanInSum": "",
    "FanOut": "num", "Flatten": "batch_axis=0, batch_axis_out=0", "Gabor": "", "Gaussian": "a=1, b=-1",
    "Gelu": "approximate=False", "GlobalAvgPool": _AXES,
    "GlobalSelfAttention": "n_chan_out, n_chan_key, n_chan_val, n_heads, linear_scaling=True, W_key_std=1.0, "
    "W_value_std=1.0, W_query_std=1.0, W_out_std=1.0, b_std=None, attention_mechanism='SOFTMAX', pos_emb_type='NONE', "
    f"pos_emb_p_norm=2, pos_emb_decay_fn=None, n_chan_pos_emb=None, W_pos_emb_std=1.0, val_pos_emb=False, {_AXES}",
    "GlobalSumPool": _AXES, "Hermite": "degree", "Identity": "",
    "ImageResize": f"shape, method, antialias=True, precision=None, {_AXES}", "Index": f"idx, {_AXES}",
    "LayerNorm": f"axis=-1, eps=1e-12, {_AXES}", "LeakyRelu": "alpha, do_stabilize=False", "Monomial": "degree",
    "Polynomial": "coef", "Rbf": "gamma=1.0", "RectifiedMonomial": "degree", "Relu": "do_stabilize=False",
    "Sigmoid_like": "", "Sign": "", "Sin": _SINE,
    "SumPool": f"window_shape, strides=None, padding='VALID', {_AXES}",
    "parallel": "*layers", "repeat": "layer, n", "serial": "*layers",
}  # fmt: skip


def check_expression(expression: str, given: Any = "relu") -> set[str]:
    """Check an architecture given as a text, and return the names of its layers and combinators.

    Args:
        expression: The architecture, such as `serial(Dense(1), Relu(), Dense(1))`.
        given: The activation that a layer `Elementwise()` without arguments stands for. If it is not "relu", the
            expression must have such a layer.

    Raises `UserError` for text that is not an expression of stax layers, and for arguments that a layer does not take.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        layer = evaluated(tree, _checked_layer)
        names = {_name(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    except UserError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"Cannot read the architecture {expression[:SHOWN]!r}: {error}.") from error
    if not isinstance(layer, _Layer):
        raise UserError(
            f"An architecture is one layer, such as serial(Dense(1), Relu()). Received: {expression[:SHOWN]!r}."
        )
    if given != "relu" and "Elementwise" not in names:
        raise UserError(f"The architecture has no Elementwise() for the activation. Received: {expression[:SHOWN]!r}.")
    return names


def check_inputs(expression: str, names: set[str], images: bool) -> None:
    """Raise `UserError` for an architecture for images if the inputs are vectors or the outputs are not vectors.

    An architecture is for images if it has a layer of `SPATIAL`, such as a convolution. It must then have a layer of
    `HEADS`, such as `Flatten`, which converts an image to one vector. The order of the layers is not checked.

    Args:
        expression: The architecture, for the message.
        names: Names of its layers, as `check_expression` returns them.
        images: Whether the inputs are images.
    """
    if names & SPATIAL and not images:
        raise UserError(f"The architecture takes images, and the inputs are rows. Received: {expression[:SHOWN]!r}.")
    if names & SPATIAL and not names & HEADS:
        raise UserError(
            f"The architecture's outputs are not one vector an input. End it with Flatten() or GlobalAvgPool(), and "
            f"Dense(1). Received: {expression[:SHOWN]!r}."
        )


class _Layer:
    """Placeholder for a layer, or for the layers that a combinator makes, while an expression is checked.

    `count` is the number of layers.
    """

    def __init__(self, count: int):
        self.count = count


def evaluated(node: ast.expr, call: Callable[[ast.expr, list, dict[str, Any]], Any]) -> Any:
    """Return the value of one node of the syntax tree of an architecture expression.

    Args:
        node: The node.
        call: Function that returns the value of a call, given the node of the called function, the values of the
            positional arguments, and those of the keyword arguments by name.

    Raises `UserError` for anything except calls, numbers, strings, tuples and lists.
    """
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, bool | int | float | str):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, int | float):
            return -value
        case ast.Tuple(elts=items):
            return tuple(evaluated(item, call) for item in items)
        case ast.List(elts=items):
            return [evaluated(item, call) for item in items]
        case ast.Call(func=function, args=arguments, keywords=keywords) if all(word.arg for word in keywords):
            values = [evaluated(argument, call) for argument in arguments]
            return call(function, values, {word.arg: evaluated(word.value, call) for word in keywords})
    raise UserError(f"An architecture holds stax layers, numbers, strings and tuples only. Cannot read: {_text(node)}.")


def _checked_layer(function: ast.expr, values: list, named: dict[str, Any]) -> _Layer:
    """Check the arguments of a layer or combinator and return a placeholder that counts its layers.

    Args:
        function: Node of the syntax tree that names the layer.
        values: Positional arguments.
        named: Keyword arguments.

    Raises `UserError` for arguments that the layer does not take, and for more than `MOST` layers.
    """
    name = _name(function)
    _check_call(name, values, named)
    parts = [value for value in (*values, *named.values()) if isinstance(value, _Layer)]
    count = sum(part.count for part in parts) or 1
    if name == "repeat":
        count *= signature(name).bind(*values, **named).arguments["n"]
    if count > MOST:
        raise UserError(f"An architecture has at most {MOST} layers. Received: {count:,} by {name}.")
    return _Layer(count)


def _name(node: ast.expr) -> str:
    """Return the name of the layer or combinator that a node of the syntax tree refers to.

    The prefixes `stax.` and `nt.stax.` are allowed. Raises `UserError` for a name that stax does not have.
    """
    name = ast.unparse(node).removeprefix("nt.").removeprefix("neural_tangents.").removeprefix("stax.")
    if name not in PARAMETERS:
        raise UserError(f"stax has no layer {_text(node)}. It has: {', '.join(PARAMETERS)}.")
    return name


def _check_call(name: str, values: list, named: dict[str, Any]) -> None:
    """Raise `UserError` for arguments that the layer `name` does not take.

    Args:
        name: Name of the layer or combinator.
        values: Positional arguments.
        named: Keyword arguments.
    """
    if name == "Elementwise":
        if named or len(values) > 1 or not all(isinstance(value, str) for value in values):
            raise UserError("In an expression Elementwise takes the name of an activation, or nothing.")
        for value in values:
            if is_reference(value):
                raise UserError(f"An activation of your own is --activation={value}, with Elementwise() in its place.")
            parse_activation(value)
        return
    try:
        bound = signature(name).bind(*values, **named).arguments
    except TypeError as error:
        raise UserError(f"stax refuses the arguments of {name}: {error}.") from error
    for argument, value in bound.items():
        allowed, what = KINDS.get(argument, KINDS["number"])
        values = value if argument == "layers" else (value,)
        if argument in ("n", "num") and allowed(value) and value > MOST:
            raise UserError(f"{name} takes {argument} of at most {MOST}. Received: {value}.")
        if not all(allowed(one) for one in values):
            shown = "a layer" if isinstance(value, _Layer) else repr(value)[:80]
            raise UserError(f"{name} takes {what} for {argument}. Received: {shown}.")
    if name == "ElementwiseNumerical":
        parse_activation(bound["fn"])


def _text(node: ast.expr) -> str:
    return repr(ast.unparse(node)[:80])


def signature(name: str) -> inspect.Signature:
    """Return the signature of the layer or combinator of stax called `name`, from the table `PARAMETERS`."""
    function = ast.parse(f"def layer({PARAMETERS[name]}): pass").body[0]
    code = compile(ast.Module([function], []), "<layer>", "exec")
    found: dict[str, Any] = {}
    exec(code, found)  # executes text of the table above only
    return inspect.signature(found["layer"])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _counted(value: Any) -> bool:
    return _whole(value) and value >= 1


def _sizes(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) > 0 and all(_counted(size) and size <= MOST for size in value)


def _or_none(allowed: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or allowed(value)


def _one_of(*choices: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in choices), "one of " + ", ".join(map(repr, choices))


# For each parameter: a check of its value, and a phrase for errors. Parameters not listed take numbers.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "number": (_or_none(_number), "a number"),
    "fn": (lambda value: isinstance(value, str), "the name of an activation"),
    "mode": _one_of("train", "test"), "padding": _one_of("VALID", "SAME", "CIRCULAR"),
    "parameterization": _one_of("ntk", "standard"), "implementation": _one_of("DENSE", "SPARSE"),
    "attention_mechanism": _one_of("SOFTMAX", "IDENTITY", "ABS", "RELU"),
    "pos_emb_type": _one_of("NONE", "SUM", "CONCAT"),
    **dict.fromkeys(("layers", "layer"), (lambda value: isinstance(value, _Layer), "layers")),
    **dict.fromkeys(("df", "to_dense", "pos_emb_decay_fn"), (lambda value: value is None, "no function")),
    **dict.fromkeys(("out_dim", "out_chan", "n", "num", "deg", "n_chan_out", "n_chan_key", "n_chan_val", "n_heads"),
                    (_counted, "a whole number of at least 1")),
    "degree": (lambda value: _whole(value) and 0 <= value <= MOST, f"a whole number from 0 to {MOST}"),
    "n_chan_pos_emb": (_or_none(_counted), "a whole number of at least 1"),
    **dict.fromkeys(("filter_shape", "window_shape"), (_sizes, f"sizes such as (3, 3), each from 1 to {MOST},")),
    "strides": (_or_none(_sizes), "sizes such as (2, 2)"),
    "shape": (lambda value: isinstance(value, tuple | list), "a shape"),
    "coef": (lambda value: isinstance(value, tuple | list) and all(map(_number, value)), "a list of numbers"),
    **dict.fromkeys(("batch_axis", "channel_axis", "batch_axis_out"), (_whole, "a whole number")),
    **dict.fromkeys(("do_stabilize", "normalize_edges", "approximate", "do_clip", "linear_scaling", "val_pos_emb",
                     "antialias"), (lambda value: isinstance(value, bool), "True or False")),
    **dict.fromkeys(("dimension_numbers", "s", "idx", "axis", "aggregate_axis", "precision", "method", "lhs", "rhs"),
                    (lambda value: not isinstance(value, _Layer), "no layer")),
}  # fmt: skip
