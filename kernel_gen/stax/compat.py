"""Compatibility of neural-tangents 0.6.5, which was written for JAX up to 0.5, with JAX 0.10 and later.

Call `install()` before `import neural_tangents`, as `kernel_gen.stax.network` does. It restores names that JAX has
moved or removed, for the whole process. JAX's private modules are not changed, because JAX itself reads them. Names
that still exist are unchanged, with four exceptions. `ad.linearize` has its old form again, and `jax.core.eval_context`
does nothing. The result of `cost_analysis` also has the old index 0, and `scipy.linalg.eigvalsh` also accepts the old
argument `eigvals`.
"""

import contextlib
import functools
import sys
import types
from typing import Any

import jax
import jax.extend.core
import jax.stages
import scipy.linalg
from jax.interpreters import ad


class _Costs(dict):
    """The costs of a compiled function, as JAX's `cost_analysis` returns them: a dictionary d that also has d[0] = d.

    Older versions of JAX returned a list with one dictionary, and neural-tangents reads the entry 0 of that list.
    """

    def __missing__(self, key: Any) -> dict:
        if key == 0:
            return self
        raise KeyError(key)


class _Unknown:
    """A marker that the old `ad.linearize` returned for each output that depends on the tangents (`is_known` is false).

    neural-tangents reads the markers. The replacement `_linearize` marks all outputs in this way.
    """

    @staticmethod
    def is_known() -> bool:
        return False


class _NoNames:
    """A replacement, which stores nothing, for JAX's stack of names that profilers show."""

    def __add__(self, other: Any) -> "_NoNames":
        return self


_NO_SOURCE = types.SimpleNamespace(
    transform_name_stack=lambda name: contextlib.nullcontext(),
    current_name_stack=_NoNames,
    user_context=lambda traceback, *, name_stack: contextlib.nullcontext(),
)


def _linearize(function: Any, *primals: jax.Array, has_aux: bool = False) -> tuple:
    """Return f(primals) and its linearization as a jaxpr with constants, in the form of the old `ad.linearize`.

    Args:
        function: The function f, wrapped by JAX.
        primals: Arguments of f.
        has_aux: Not used.

    Returns: The outputs, a marker `_Unknown` for each of them, the jaxpr of the linear map, and its constants.
    """
    outputs, tangent_map = jax.linearize(function.call_wrapped, *primals)
    closed = jax.make_jaxpr(tangent_map)(*primals)
    return outputs, [_Unknown] * len(outputs), closed.jaxpr, closed.consts


def _transpose(primitive: Any, cotangent: Any, operand: Any, *fixed: Any, **parameters: Any) -> list:
    """Apply the transpose of a primitive that is linear in its first operand, computed by `jax.linear_transpose`.

    Args:
        primitive: JAX primitive.
        cotangent: Cotangent of the output.
        operand: First operand, whose shape and data type are read.
        fixed: Other operands.
        parameters: Parameters of the primitive.

    Returns: The cotangent of each operand; None for all except the first.
    """
    if isinstance(cotangent, ad.Zero):
        return [ad.Zero(operand.aval), *[None] * len(fixed)]
    like = jax.ShapeDtypeStruct(operand.aval.shape, operand.aval.dtype)
    transposed = jax.linear_transpose(lambda tangent: primitive.bind(tangent, *fixed, **parameters), like)
    return [*transposed(cotangent), *[None] * len(fixed)]


def _safe_zip(*lists: Any) -> list[tuple]:
    return list(zip(*lists, strict=True))


def _safe_map(function: Any, *lists: Any) -> list:
    return [function(*items) for items in zip(*lists, strict=True)]


@functools.cache
def install() -> None:
    """Restore the names that neural-tangents needs in the modules of JAX and SciPy, once per process."""
    moved = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")
    _put_back(jax.core, {name: getattr(jax.extend.core, name) for name in moved})
    # DShapedArray is used only in isinstance checks: no instances exist any more
    _put_back(jax.core, {"DShapedArray": type("DShapedArray", (), {})})
    jax.core.eval_context = contextlib.nullcontext  # the real one fails under vmap
    if "jax.util" not in sys.modules:
        jax.util = sys.modules["jax.util"] = types.ModuleType("jax.util")
        _put_back(jax.util, {"safe_map": _safe_map, "safe_zip": _safe_zip})

    ad.linearize = _linearize
    config = types.SimpleNamespace(jax_enable_checks=False)
    zeros_like = jax.extend.core.Primitive("zeros_like")  # only a key of tables: no longer bound anywhere
    _put_back(ad, {"config": config, "source_info_util": _NO_SOURCE, "reducing_transposes": {}})
    _put_back(ad, {"zeros_like_p": zeros_like})
    for primitive in (jax.lax.slice_p, jax.lax.dynamic_slice_p):  # their rules have another form now
        ad.primitive_transposes.setdefault(primitive, functools.partial(_transpose, primitive))
    if not hasattr(jax.extend.core.Primitive, "map_primitive"):
        jax.extend.core.Primitive.map_primitive = False

    costs = jax.stages.Compiled.cost_analysis
    jax.stages.Compiled.cost_analysis = lambda compiled: _Costs(costs(compiled) or {})
    eigvalsh = scipy.linalg.eigvalsh
    scipy.linalg.eigvalsh = lambda *args, eigvals=None, **keywords: eigvalsh(
        *args, **({"subset_by_index": eigvals} if eigvals else {}), **keywords
    )
    # The TensorFlow front end would import TensorFlow and a converter that JAX has removed.
    sys.modules.setdefault("neural_tangents.experimental", types.ModuleType("neural_tangents.experimental"))


def _put_back(module: types.ModuleType, names: dict[str, Any]) -> None:
    """Set the attributes in `names` that the module no longer has; existing ones are unchanged."""
    for name, value in names.items():
        vars(module).setdefault(name, value)
