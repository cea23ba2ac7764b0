"""The base class of kernels, and checks of kernel entries for overflow and underflow.

A kernel first prepares its inputs: it computes the quantities that depend on one input alone. It then computes the
entries for blocks of pairs of inputs.
"""

import abc
import contextlib
from typing import Any, TypeVar

import numpy as np

from linearized.base.array_checks import first_not_finite
from linearized.base.errors import UserError

OneKernel = TypeVar("OneKernel", bound="Kernel")
DIAGONAL = 32  # inputs of the square blocks that a diagonal is taken from


class Kernel(abc.ABC):
    """Base class of kernels k(x, z), which are computed for blocks of rows x and rows z.

    Attributes:
        tile: Number of rows and columns of a block that is computed at full speed with moderate memory.
        scale: "input" (raw inputs) or "stax" (inputs divided by √d for rows of d columns, by √channels for images).
            The setting --scale=published, the default, selects "input" for the NTK of one hidden layer of ReLUs and for
            the RF kernel of infinite width, because published matrices of these kernels have that scale. For all other
            kernels with a choice of scales it selects "stax".
        dtype: Data type of the blocks, float32 or float64.
        own_threads: Whether `block` uses all cores itself; otherwise it uses one, and blocks are computed in parallel.
        on_demand: Whether `prepare` computes nothing, and `block` computes and caches the quantities that it needs of
            each row. A job then prepares all train rows in one call and uses the result for the rows and for the
            columns of its blocks, so that both share the cache.
        positive: Whether k(x, x) > 0 for every x except 0. A diagonal of zeros then indicates an underflow.
    """

    tile: int
    scale: str
    dtype: np.dtype
    own_threads: bool = False
    on_demand: bool = False
    positive: bool = False

    def on(self: OneKernel, train: np.ndarray) -> OneKernel:
        """Return the kernel with the parameters that the train rows determine, such as a bandwidth.

        By default it is the kernel itself. The method is called once, before `prepare`.

        Args:
            train: Rows (n, d) to which the columns of the Gram matrices belong.
        """
        return self

    @abc.abstractmethod
    def prepare(self, x: np.ndarray) -> Any:
        """Return the rows with the quantities of the kernel that depend on one row alone, such as norms.

        Args:
            x: Rows (n, d).

        Returns: An object of length n that can be sliced by rows.
        """

    @abc.abstractmethod
    def block(self, one: Any, two: Any, *, same: bool = False) -> np.ndarray:
        """Return the kernel (n1, n2) between two sets of inputs.

        Args:
            one: The n1 inputs of the rows, prepared by `prepare`.
            two: The n2 inputs of the columns, prepared by `prepare`.
            same: Whether `two` contains the inputs of `one`; entries at correlation 1, as on the diagonal, are then
                exact.
        """

    def side(self, rows: int) -> int:
        """Return the number of rows and columns of the square blocks in which a matrix in memory is computed.

        By default it is `tile`.

        Args:
            rows: Number of rows or columns of the matrix, whichever is larger.
        """
        return self.tile

    def diagonal(self, rows: Any) -> np.ndarray:
        """Return k(x, x) of n inputs, (n,) in float64.

        By default square blocks of `DIAGONAL` inputs each are computed, and their diagonals are returned. This costs as
        much as about n · `DIAGONAL` / 2 pairs.

        Args:
            rows: The inputs, as `prepare` returns them.
        """
        parts = [rows[start : start + DIAGONAL] for start in range(0, len(rows), DIAGONAL)]
        return np.concatenate([np.zeros(0), *(np.diagonal(self.block(part, part, same=True)) for part in parts)])


def quiet() -> contextlib.AbstractContextManager:
    """Return a context in which NumPy does not warn of overflow, invalid operations or division by 0 in this thread.

    Kernels are computed in this context. Overflow is detected afterwards (see `refuse_overflow`).
    """
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def refuse_overflow(entries: np.ndarray, rows: tuple[str, int], columns: tuple[str, int]) -> None:
    """Raise `UserError` for the first kernel entry that is NaN or infinite, with its row and column.

    Args:
        entries: A block (n1, n2) of the matrix.
        rows: Name of the array with the inputs of the rows, such as "x1", and the index of the block's first row in it.
        columns: Name of the array with the inputs of the columns, and the index of the block's first column in it.
    """
    where = first_not_finite(entries)
    if where is None:
        return
    (one, start), (two, left) = rows, columns
    wider = "" if entries.dtype == np.float64 else "take dtype='float64', "
    raise UserError(
        f"The kernel of row {start + where[0]} of {one} and row {left + where[1]} of {two} is {entries[where]}: it is "
        f"beyond the range of {entries.dtype}. Look at these two inputs, {wider}lower weight_std, or scale the inputs."
    )


def underflow(kernel: Kernel, block: np.ndarray, x: np.ndarray) -> str:
    """Return a warning text if every k(x, x) is below the smallest normal number of its dtype, otherwise "".

    Args:
        kernel: The kernel; only kernels that are `positive` are checked.
        block: The kernel (n, n) of the rows `x` with themselves, whose diagonal is checked.
        x: The rows (n, d). Rows of zeros are ignored.
    """
    there = x.reshape(len(x), -1).any(axis=1)
    least = np.finfo(block.dtype).tiny
    if not (kernel.positive and there.any() and (np.abs(np.diagonal(block))[there] < least).all()):
        return ""
    wider = "" if block.dtype == np.float64 else "take dtype='float64', "
    return (
        f"The kernel of all rows with themselves is below {least:.1e}, the smallest normal number of "
        f"{block.dtype}: entries have lost digits or are 0. Raise weight_std (√2 keeps the variance of ReLU networks "
        f"from layer to layer), {wider}take fewer layers, or scale the inputs."
    )
