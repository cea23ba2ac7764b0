"""Gram matrices of arrays in memory, computed without files.

The function `gram` is the public `kernel_gen.gram`.
"""

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from kernel_gen import KERNELS
from kernel_gen.kernel import Kernel, quiet, refuse_overflow, underflow
from kernel_gen.kernels.own import own_kernel
from kernel_gen.rows import mirror
from linearized.base.array_checks import real_array
from linearized.base.blocks import for_each
from linearized.base.errors import UserError
from linearized.base.shapes import Float
from linearized.settings.gram_settings import KernelSettings


def gram(
    kernel: str | Kernel | Callable[[Any, Any], Any], x1: np.ndarray, x2: np.ndarray | None = None, *,
    scale: str = "stax", dtype: Any = "float32", bias_std: float | None = None,
    image_shape: tuple[int, ...] | None = None, **settings: Any,
) -> Float[np.ndarray, "n1 n2"]:  # fmt: skip
    """Return the kernel matrix (n1, n2) between the rows or images of `x1` and those of `x2`, computed on all cores.

    Args:
        kernel: A name in `KERNELS`, a user-defined function or its `package.module:function` (see
            `kernel_gen.kernels.own`), or a `Kernel`, such as `kernel_gen.stax.network.from_stax` returns.
        x1: Rows (n1, d) or images (n1, h, w, c).
        x2: The n2 train rows or images, of the same shape as those of `x1`. Parameters that depend on the train rows,
            such as a bandwidth by the median rule, are computed from them. None: `x1` is used as `x2`;
            the result is then symmetric to the last bit, and its diagonal is exact.
        scale: "stax" divides rows by √d and images by √channels; "input" leaves them unchanged; "published" (the
            default of the command line) is "input" for the NTK of one hidden layer of ReLUs and for the RF kernel of
            infinite width, otherwise "stax".
        dtype: Data type of the entries, float32 or float64.
        bias_std: Standard deviation of the biases; None is 0, as in stax.
        image_shape: (h, w, c) if rows are to be read as images.
        settings: Further settings of the kernel, such as kind, num_layers, depth, weight_std and num_units; see
            `KernelSettings` in `linearized.settings.gram_settings`.

    Raises `UserError` for inputs or settings that do not fit, and for entries that are not finite. Warns if the
    diagonal underflows.

    Example:
        >>> import numpy as np
        >>> import kernel_gen
        >>> x = np.eye(3)
        >>> k = kernel_gen.gram("NTK", x, kind="nngp", dtype="float64")
        >>> np.allclose(k, k.T), np.allclose(np.diag(k), k[0, 0])
        (True, True)
        >>> kernel_gen.gram("NTK", x, x[:2]).shape
        (3, 2)
    """
    x1, shape1 = _rows(x1, image_shape, "x1")
    x2, shape2 = (None, shape1) if x2 is None else _rows(x2, image_shape, "x2")
    if shape1 != shape2 or (x2 is not None and x1.shape[1] != x2.shape[1]):
        raise UserError(
            f"x1 and x2 must hold inputs of one shape. Received: {shape1 or x1.shape[1:]} and {shape2 or x2.shape[1:]}."
        )
    if isinstance(kernel, str):
        settings |= {"kernel": kernel, "scale": scale, "dtype": _name(dtype), "bias_std": bias_std or 0.0}
        made = in_scale(KernelSettings, settings)
        kernel = KERNELS.load(made.kernel).build(made, shape1)
    elif not (isinstance(kernel, Kernel) or callable(kernel)):
        raise UserError(f"A kernel is a name ({', '.join(KERNELS)}), a function or a Kernel. Received: {kernel!r}.")
    elif settings or bias_std is not None:
        raise UserError(f"A Kernel has its settings already. Received also: {', '.join(settings) or 'bias_std'}.")
    elif not isinstance(kernel, Kernel):
        kernel = own_kernel(kernel, KernelSettings(dtype=_name(dtype)).dtype)
    return in_tiles(kernel.on(x1 if x2 is None else x2), x1, x2)


def in_tiles(
    kernel: Kernel, x1: np.ndarray, x2: np.ndarray | None = None, *, side: int | None = None
) -> Float[np.ndarray, "n1 n2"]:
    """Return the kernel matrix (n1, n2) of rows (n1, d) and (n2, d), computed in rectangular parts (tiles).

    Without `x2` the result is the kernel of `x1` with itself: tiles of the upper triangle are computed and mirrored.

    Args:
        kernel: Kernel whose parameters are set.
        x1: Rows (n1, d).
        x2: Rows (n2, d), or None.
        side: Largest number of rows and columns of a tile; None: the result of `kernel.side`. Such tiles may be larger
            than `kernel.tile`; they then take less time and more memory.

    Raises `UserError` for entries that are not finite. Warns if the diagonal underflows.
    """
    same = x2 is None
    with quiet():
        one = kernel.prepare(x1)
        two = one if same else kernel.prepare(x2)
    entries = np.empty((len(one), len(two)), kernel.dtype)
    side = side or kernel.side(max(entries.shape))

    def fill(tile: tuple[int, int]) -> None:
        rows, columns = (slice(start, start + side) for start in tile)
        diagonal = same and rows == columns
        with quiet():
            found = kernel.block(one[rows], two[columns], same=diagonal)
        refuse_overflow(found, ("x1", rows.start), ("x1" if same else "x2", columns.start))
        if diagonal:
            if words := underflow(kernel, found, x1[rows]):
                warnings.warn(words, stacklevel=4)
            mirror(found)
        entries[rows, columns] = found
        if same and not diagonal:
            entries[columns, rows] = found.T

    tiles = [(i, j) for i in range(0, len(one), side) for j in range(0, len(two), side) if not same or i <= j]
    if len(tiles) == 1 or kernel.own_threads:
        for tile in tiles:
            fill(tile)  # in this thread, where BLAS may use all cores
    else:
        for_each(tiles, fill)
    return entries


def _rows(x: np.ndarray, image_shape: tuple[int, ...] | None, name: str) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Return `x`, rows or images, as rows (n, d), and the images' (height, width, channels), or None for plain rows.

    `image_shape` is the shape of images that are given as rows, and `name` the name of `x` in error messages.
    """
    x, image_shape = real_array(x, name), None if image_shape is None else checked_shape(image_shape)
    if x.ndim not in (2, 4):
        raise UserError(f"{name} must hold real rows (n, d) or images (n, h, w, c). Received: shape {x.shape}.")
    if x.ndim == 2:
        if image_shape is not None and math.prod(image_shape) != x.shape[1]:
            raise UserError(f"{name} has rows of {x.shape[1]} numbers, which are not images of shape {image_shape}.")
        return x, image_shape
    if image_shape is not None and x.shape[1:] != image_shape:
        raise UserError(f"{name} holds images of shape {x.shape[1:]}, and image_shape is {image_shape}.")
    return x.reshape(len(x), int(np.prod(x.shape[1:]))), x.shape[1:]


def in_scale(kind: type[KernelSettings], values: dict[str, Any]) -> KernelSettings:
    """Return an object of the settings class `kind` with the given values.

    `values` maps field names to values and includes "scale". Kernels without a choice of scales have no such setting;
    for them `scale="stax"` is accepted and ignored.
    """
    if values["scale"] == "stax" and not kind.draft(**values).reads("scale"):
        values = {**values, "scale": "published"}
    return kind.from_dict(values)


def checked_shape(image_shape: Any) -> tuple[int, int, int]:
    """Return `image_shape` as integers (height, width, channels).

    Raises `UserError` unless it has three sizes of at least 1.
    """
    try:
        sizes = tuple(operator.index(size) for size in image_shape)
    except TypeError:
        sizes = ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise UserError(f"image_shape must be (height, width, channels), each at least 1. Received: {image_shape!r}.")
    return sizes


def _name(dtype: Any) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)  # the settings raise an error that lists the valid names
