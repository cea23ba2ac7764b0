"""Functions that compute one block of rows for a fit on centres, in this process or on a worker.

A fit on centres is kernel ridge regression f(x) = k(x, C) a with some train rows as centres C
(`linearized.kernel_ridge.nystrom`). A worker receives the rows of a block with each call, and the object `Centres` only
once. It returns the block's summands of the normal equations, or its predictions. The kernel K_bC between the block and
the centres stays in the process that computes it.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import scipy.linalg

from kernel_gen.kernel import Kernel, quiet
from linearized.base.shapes import Float, Float64
from linearized.data.dataset import fingerprint
from linearized.kernel_ridge.cross_kernel import CrossKernel
from linearized.kernel_ridge.row_passes import RowPasses

NAMES = ("the rows", "the centres")  # of the two sides of K_nC in messages


@dataclasses.dataclass(frozen=True)
class Centres:
    """The centres of a fit, their kernel, and the Cholesky factor of the kernel K_CC between them.

    Attributes:
        kernel: Kernel whose parameters are set, for the kernel between rows and centres.
        rows: Centres (r, d).
        lower: L (r, r) with K_CC = L Lᵀ, in the dtype of the kernel, column-major.
    """

    kernel: Kernel
    rows: np.ndarray
    lower: Float[np.ndarray, "r r"]

    @functools.cached_property
    def prepared(self) -> Any:
        """The centres in the form that `kernel.prepare` returns, computed at the first use."""
        with quiet():
            return self.kernel.prepare(self.rows)

    def cross(self, x: np.ndarray, first: int) -> CrossKernel:
        """Return k(x, C) for rows x (b, d) and the centres C; `first` is the index of x[0] in error messages."""
        return CrossKernel(self.kernel, x, self.prepared, NAMES, first)


def equations(
    centres: Centres, x: np.ndarray, y: Float64[np.ndarray, "b k"], first: int
) -> tuple[Float[np.ndarray, "r r"], Float64[np.ndarray, "r k"], float]:
    """Return ΦᵀΦ, ΦᵀY and the trace of K for a block of rows with features Φ = K_bC L⁻ᵀ and labels Y.

    K_bC is the kernel between the block and the centres, K the kernel of the block with itself. ΦᵀΦ has the dtype of
    the kernel.

    Args:
        centres: Centres and L.
        x: Rows (b, d).
        y: Labels Y of the rows.
        first: Index of the first row, for error messages.
    """
    kernel, lower = centres.kernel, centres.lower
    (solve,) = scipy.linalg.get_blas_funcs(("trsm",), (lower,))
    features = solve(1.0, lower, centres.cross(x, first)[:].T, lower=1, overwrite_b=1)  # Φᵀ, (r, b), column-major
    square = features @ features.T  # NumPy calls syrk, which is half the work of a product
    return square, features @ y, float(kernel.diagonal(kernel.prepare(x)).sum())


def predictions(
    centres: Centres, v: Float64[np.ndarray, "r k"], x: np.ndarray, first: int
) -> Float64[np.ndarray, "b k"]:
    """Return k(x, C) v for a block of rows x and the centres C.

    Args:
        centres: The centres.
        v: Columns of coefficients.
        x: Rows (b, d).
        first: Index of the first row, for error messages.
    """
    return centres.cross(x, first) @ v


class WatchedCrossKernel(CrossKernel):
    """The kernel between rows and the centres, whose products report progress and write checkpoints.

    A product is one pass over the rows, in blocks.

    Args:
        centres: The centres.
        shared: Placeholder of the centres among the arguments of tiles, which `share` of `linearized.cluster.tiles`
            returned.
        x: Rows (m, d).
        passes: Progress, checkpoints and place of the passes.
        name: Name of the rows, for progress and checkpoints.
        step: Number of rows of a block.
    """

    def __init__(self, centres: Centres, shared: Any, x: np.ndarray, *, passes: RowPasses, name: str, step: int):
        super().__init__(centres.kernel, x, centres.prepared, NAMES)
        self._shared, self._passes, self._name, self._step = shared, passes, name, step

    def __matmul__(self, v: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "m k"]:
        """Return the product with v in float64, computed in one pass over the rows."""
        out, coefficients = np.zeros((len(self), v.shape[1])), self._passes.place.share(v)

        def tile(rows: slice) -> tuple:
            return self._shared, coefficients, self._x[rows], rows.start

        self._passes.over(
            len(self), self._step, predictions, tile, out.__setitem__, {"out": out},
            title=f"predictions of {self._name} rows", name=f"predictions-{self._name}", of=fingerprint(v),
        )  # fmt: skip
        return out
