"""Kernels of any architecture of neural_tangents.stax.

An architecture is written as in stax, for example `serial(Conv(1, (3, 3)), Relu(), Flatten(), Dense(1))`. The text is
parsed and not evaluated as code. It may contain calls of stax's layers and combinators, whose arguments are numbers,
strings, tuples or further calls. `Elementwise('softplus')` stands for an activation of this suite by its name.
`Elementwise()` stands for the activation passed together with the text, which may be a function or an `Activation`.
"""

import ast
import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from kernel_gen.activations import activation
from kernel_gen.kernel import Kernel, quiet
from kernel_gen.rows import finite_rows, same_width
from kernel_gen.stax import compat, covariance_conv
from kernel_gen.stax.activation import activation_layer
from linearized.base.errors import UserError
from linearized.settings.stax_expression import SPATIAL, check_expression, check_inputs, evaluated

BUDGET = 2**30  # largest size in bytes of a tile's intermediate arrays


@functools.cache
def neural_tangents() -> types.ModuleType:
    """Return the package neural_tangents, patched to run on current JAX; the first call takes half a second."""
    compat.install()
    import neural_tangents
    from neural_tangents._src.stax import linear

    covariance_conv.install(linear)

    return neural_tangents


def parse(expression: str, given: Any = "relu") -> tuple[tuple, set[str]]:
    """Return the stax layer of an expression, a triple (init, apply, kernel function), and the set of names in it.

    These are the names of the layers and combinators that the expression calls.

    Args:
        expression: The architecture as text.
        given: The activation of `Elementwise()`: a name, a function or an `Activation`.

    Raises `UserError` for text that is not an expression of stax layers, and for arguments that stax rejects.
    """
    names = check_expression(expression, given)
    tree = ast.parse(expression.strip(), mode="eval").body
    return evaluated(tree, lambda function, values, named: _call(ast.unparse(function), values, named, given)), names


def _call(name: str, values: list, named: dict[str, Any], given: Any) -> Any:
    """Return the layer of one call in an expression.

    Args:
        name: Name of the layer or combinator, as written.
        values: Positional arguments.
        named: Keyword arguments.
        given: The activation of `Elementwise()`.

    Raises `UserError` for arguments that stax rejects.
    """
    layer = getattr(neural_tangents().stax, name.rpartition(".")[2])
    if layer is neural_tangents().stax.Elementwise:
        return activation_layer(*(values or [given]))
    if layer is neural_tangents().stax.ElementwiseNumerical and values and isinstance(values[0], str):
        made = activation(values[0])
        values = [lambda x: made.function(x, jnp), *values[1:]]
    try:
        return layer(*values, **named)
    except (TypeError, ValueError, NotImplementedError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"stax refuses the arguments of {name}: {error}") from error


class StaxKernel(Kernel):
    """A kernel function of neural_tangents as a `Kernel`, compiled for blocks of a few sizes.

    Blocks are padded to powers of two, so that XLA compiles few sizes. `tile`, the side of a block, is chosen such that
    the arrays of a block take at most 1 GiB by the compiler's estimate; for images and networks with pools, a pair of
    images takes 100 kB to 100 MB. The diagonal of blocks of inputs with themselves is computed in float64. The formulas
    of neural-tangents are inaccurate there, because the angle between the inputs is 0: errors of ReLU NTKs reach 2e-4
    for each hidden layer in float32 and 1e-8 in float64.

    Args:
        kernel_fn: The kernel function, which is called as kernel_fn(x, z, kind).
        kind: "ntk" or "nngp".
        dtype: Data type of the entries, "float32" or "float64".
        image_shape: (height, width, channels) of images; None: the kernel reads rows.
    """

    scale = "stax"

    def __init__(
        self, kernel_fn: Callable, kind: str = "ntk", dtype: str = "float32",
        image_shape: tuple[int, ...] | None = None,
    ):  # fmt: skip
        self.kind, self.dtype, self.image_shape = kind, np.dtype(dtype), image_shape
        self._compiled = jax.jit(lambda x, z: kernel_fn(x, z, kind))  # compiled once for each dtype and shape
        self._announced = False

    @functools.cached_property
    def tile(self) -> int:
        """The number of rows and columns of a tile of the kernel matrix: a power of two, at most 1,024.

        For images the first access compiles a block of two images to measure the memory that a pair takes.
        """
        if self.image_shape is None:
            return 1024
        with _precision(self.dtype):
            pair = jax.ShapeDtypeStruct((2, *self.image_shape), self.dtype)
            cost = self._compiled.lower(pair, pair).compile().memory_analysis().temp_size_in_bytes / 4
        return 2 ** int(np.clip(np.log2(BUDGET / max(cost, 1)) / 2, 0, 10))

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Return rows (n, d) in the kernel's dtype, or as images (n, h, w, c) if the kernel has an `image_shape`.

        Raises `UserError` for rows of a different length and for numbers that are not finite.
        """
        rows = finite_rows(x, self.dtype)
        if self.image_shape is None:
            return rows
        if rows.shape[1] != np.prod(self.image_shape):
            raise UserError(f"Rows of {rows.shape[1]} columns are not images of shape {self.image_shape}.")
        return rows.reshape(-1, *self.image_shape)

    def block(self, one: np.ndarray, two: np.ndarray, *, same: bool = False) -> np.ndarray:
        """Return the kernel (n1, n2) between two sets of inputs, which `prepare` returned.

        Args:
            one: The n1 inputs of the rows.
            two: The n2 inputs of the columns.
            same: Whether `two` contains the inputs of `one`; the diagonal is then accurate in float32 too.

        Raises `UserError` for architectures whose output is not one vector per input.
        """
        same_width(one, two)
        if not len(one) or not len(two):
            return np.empty((len(one), len(two)), self.dtype)
        entries = self._entries(_fill(one), _fill(two), self.dtype)
        if entries.ndim != 2:
            raise UserError(
                f"The architecture does not return one vector per input: its kernel has shape {entries.shape}. "
                "End it with Flatten() or GlobalAvgPool(), and Dense(1)."
            )
        entries = entries[: len(one), : len(two)]
        if same and self.dtype == np.float32:
            for i in range(len(one)):
                entries[i, i] = self._entries(one[i : i + 1], one[i : i + 1], np.dtype(np.float64)).item()
        return entries

    def _entries(self, one: np.ndarray, two: np.ndarray, dtype: np.dtype) -> np.ndarray:
        if not self._announced:
            logging.info("Compiling the architecture; this takes seconds for each shape of block")
            self._announced = True
        with _precision(dtype):
            return np.array(self._compiled(one.astype(dtype), two.astype(dtype)), dtype)


@contextlib.contextmanager
def _precision(dtype: np.dtype) -> Iterator[None]:
    """Return a context in which JAX computes in the precision of `dtype`.

    Errors that stax raises when it first traces a kernel are converted to `UserError`.
    """
    with jax.enable_x64(dtype == np.float64), quiet():
        try:
            yield
        except UserError:
            raise
        except (NotImplementedError, ValueError) as error:
            raise UserError(f"stax has no kernel of this architecture: {error}") from error


def _fill(x: np.ndarray) -> np.ndarray:
    """Return an array with its last row repeated until the number of rows is a power of two."""
    missing = 2 ** (len(x) - 1).bit_length() - len(x)
    return np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x


def from_stax(
    architecture: str | tuple | Callable, *, kind: str = "ntk", dtype: str = "float32",
    image_shape: tuple[int, ...] | None = None, activation: Any = "relu",
) -> StaxKernel:  # fmt: skip
    """Return the kernel of an expression, of a stax layer (init, apply, kernel function), or of a kernel function.

    Args:
        architecture: The expression, such as "serial(Dense(1), Relu(), Dense(1))", the layer or the kernel function.
        kind: "ntk" or "nngp".
        dtype: Data type of the entries, float32 or float64.
        image_shape: Shape (h, w, c) of images. An expression reads images if it convolves, pools or flattens, otherwise
            rows.
        activation: The activation of `Elementwise()` in an expression: a name, a function or an `Activation`.

    Raises `UserError` for an expression that cannot be read or does not fit the inputs, and for other objects.
    """
    if isinstance(architecture, str):
        layer, names = parse(architecture, activation)
        check_inputs(architecture, names, image_shape is not None)
        return StaxKernel(layer[2], kind, dtype, image_shape if names & (SPATIAL | {"Flatten"}) else None)
    kernel_fn = architecture[2] if isinstance(architecture, tuple) and len(architecture) == 3 else architecture
    if not callable(kernel_fn):
        raise UserError(
            f"from_stax takes an expression, a stax layer or a kernel function. Received: {architecture!r}."
        )
    neural_tangents()
    return StaxKernel(kernel_fn, kind, dtype, image_shape)
