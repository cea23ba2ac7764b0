"""Kernel ridge regression (K + ρI)α = Y as a problem that solvers access by products with the Gram matrix K.

K is in memory, streamed from its shards (files), or computed in every product. `GramProblem` has the interface of
`linearized.problems.least_squares`, with K in place of AᵀA, α in place of v and Y as the right-hand side. The relative
residual of α is ‖Y - (K + ρI)α‖/‖Y‖, and Kα are the predictions on the train rows. K is stored in float32 or float64.
Products with K are computed and summed in float64 (`linearized.storage.products`). Residuals are therefore accurate for
the matrix as it is stored. A solver with a loose tolerance may use the less accurate `GramProblem.rough_product`.
"""

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from absl import logging

from linearized.base.blocks import cores, for_each, row_blocks
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64, Int64
from linearized.problems.block_width import best_block, reading_columns
from linearized.problems.least_squares import MEMORY
from linearized.solvers.linear.solution import EXPECTED_VECTORS
from linearized.storage.gram import Gram
from linearized.storage.products import cut, multiply, spread

# Largest allowed difference of K[i, j] and K[j, i], relative to the largest diagonal entry; float32 kernels reach 1e-4.
SYMMETRIC = 1e-3
SQUARE = 512  # rows of the square blocks that are compared with their mirror image
ROWS, COLUMNS = 256, 16384  # size of a block of K in float32 products


@runtime_checkable
class StreamedGram(Protocol):
    """Protocol of a Gram matrix K (n, n) that is not in memory, such as `linearized.storage.gram.Gram`.

    Its entries are read from files, or computed, in every product. Classes other than `Gram` also have two methods.
    `computing_columns()` returns the time to compute K once, in units of the time that one more column adds to a
    product with K. `row_block(rows, v)` returns what `GramProblem.row_block` does.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    seconds_reading: float
    seconds_waiting: float

    def multiply(self, v: np.ndarray) -> np.ndarray:
        """Return K v (n, c) in float64, for float64 columns v (n, c)."""

    def diagonal(self) -> np.ndarray:
        """Return the diagonal of K, (n,), in float64."""

    def columns(self, chosen: np.ndarray) -> np.ndarray:
        """Return the columns K[:, chosen], (n, b), for the indices `chosen` (b,)."""

    def to_memory(self, dtype: np.dtype | str | None = None) -> np.ndarray:
        """Return the whole matrix as an array (n, n) of type `dtype`; None: the type of the entries."""


class GramProblem:
    """Gram matrix K and labels Y of kernel ridge regression (K + ρI)α = Y.

    Args:
        gram: K (n, n), symmetric: an array, shards as returned by `linearized.open_gram`, or any other object with the
            products of `StreamedGram`.
        targets: Y (n, k).
        memory: Memory in bytes for the solver's arrays. If there is also room for K, shards are read into memory once.
        overwrite: Whether a solver may overwrite the array `gram` instead of a copy. After that, this problem no longer
            provides products.

    Attributes:
        targets: Y in float64.
        params: n, the number of rows of K; the attributes `rows` and `n` have the same value.
        dtype: Data type of the entries of K or, if `rounded` is true, of the copy that solvers factor.
        rounded: Whether K is in float64 and solvers factor a float32 copy of it, as in `RoundedGramProblem`.
        rounding: Relative rounding error of `primal_product`.
        passes: Number of products so far; each reads K once.
        seconds_multiplying: Total time of the products.

    Raises:
        UserError: If an array is not square, symmetric and finite, or if the number of labels differs.
    """

    dual, rounded = False, False
    rounding = float(np.finfo(np.float64).eps)  # products are in float64 for any dtype of K

    def __init__(
        self, gram: np.ndarray | StreamedGram, targets: Float[np.ndarray, "n k"], *, memory: int = MEMORY,
        overwrite: bool = False,
    ):  # fmt: skip
        if gram.shape != (len(targets), len(targets)):
            raise UserError(
                f"K must be square, with a row for each of the {len(targets)} labels. Received: shape {gram.shape}."
            )
        if not np.isfinite(targets).all():
            raise UserError(f"The labels are not finite: {np.sum(~np.isfinite(targets))} of {targets.size} entries.")
        if isinstance(gram, np.ndarray):
            refuse_asymmetric(gram)
            gram = gram if gram.flags.c_contiguous or not gram.flags.f_contiguous else gram.T
        self.gram, self.memory, self.dtype, self.overwrite = gram, memory, np.dtype(gram.dtype), overwrite
        self.targets = np.asarray(targets, np.float64)
        self.params = self.rows = self.n = len(self.targets)
        self.passes, self.seconds_multiplying = 0, 0.0
        self._shards = None if isinstance(gram, np.ndarray) else gram
        self._bytes = self.n**2 * self.dtype.itemsize
        self._hold = self._shards is not None and fits_with_basis(self.n, self.columns, self.dtype.itemsize, memory)
        self._block: int | None = None

    @property
    def streamed(self) -> bool:
        """Whether every product reads K from its shards, or computes it, because K is not in memory."""
        return self._shards is not None and not self._hold

    @property
    def columns(self) -> int:
        """The number k of columns of Y, which are right-hand sides with the same K."""
        return self.targets.shape[1]

    @property
    def block(self) -> int:
        """The block size (number of columns per product with K) with which block Lanczos takes the least time.

        It is estimated at the first access by `best_block`, from the time of reading or computing K.
        """
        if self._block is None:
            self._block = best_block(
                self.columns, self.n, self._reading(), cores() > 1 and isinstance(self._shards, Gram)
            )
        return self._block

    @property
    def spare(self) -> int:
        """Memory in bytes that a solver may use: the budget, minus the size of K if its shards are kept in memory."""
        return max(self.memory - (self._bytes if self._hold else 0), 0)

    @property
    def seconds_reading(self) -> float:
        """Seconds spent reading shards so far, most of it during products."""
        return self._shards.seconds_reading if self._shards is not None else 0.0

    @property
    def seconds_waiting(self) -> float:
        """Seconds that products spent waiting for shard I/O."""
        return self._shards.seconds_waiting if self._shards is not None else 0.0

    def moment(self) -> Float64[np.ndarray, "n k"]:
        """Return the right-hand side, which is Y for a Gram matrix. Least-squares problems call it the moment AᵀY."""
        return self.targets

    def primal_product(self, v: Float[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """Return K v for columns v (n, c), in float64 and one pass over K."""
        v = np.ascontiguousarray(v, np.float64)
        began = time.perf_counter()
        product = self._product(v)
        self.seconds_multiplying += time.perf_counter() - began
        self.passes += 1
        return product

    def diagonal(self) -> Float64[np.ndarray, " n"]:
        """Return the diagonal of K; if K is streamed, in one pass over the shards."""
        if self.streamed:
            return self._shards.diagonal()
        return np.diagonal(self._matrix()).astype(np.float64)

    def columns_of(self, rows: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, "n b"]:
        """Return the columns K[:, rows] for the indices `rows`; if K is streamed, in one pass over the shards."""
        if self.streamed:
            return self._shards.columns(rows).astype(np.float64, copy=False)
        return self._matrix()[rows].T.astype(np.float64)

    def row_block(
        self, rows: Int64[np.ndarray, " b"], v: Float64[np.ndarray, "n c"]
    ) -> tuple[Float64[np.ndarray, "b c"], Float64[np.ndarray, "b b"]]:
        """Return the product K[rows] v and the square K[rows][:, rows] of some rows.

        If K is computed in every product, these are the only entries that are computed. If K is in shards that do not
        fit in memory, all of them are read.

        Args:
            rows: Indices of the b rows, each at most once.
            v: Columns (n, c).
        """
        if self.streamed and not isinstance(self._shards, Gram):
            return self._shards.row_block(rows, v)
        block = self._shards.columns(rows).T if self.streamed else None
        product, square = np.empty((len(rows), v.shape[1])), np.empty((len(rows), len(rows)))
        with spread() as each:
            for part in row_blocks(len(rows), self.n * self.dtype.itemsize, block_bytes=2**25):
                some = self._matrix()[rows[part]] if block is None else block[part]
                product[part], square[part] = multiply(some, v, each), some[:, rows]
        return product, square

    @property
    def rough_product(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Function that computes K v faster and less accurately than `primal_product`; None if it would not be faster.

        It multiplies in float32 and sums over blocks of rows in float64. At n = 10,000 and 10 columns it takes 0.045 s
        on one core instead of 0.08 s. The norm of its error is about 4e-7 ‖K‖‖v‖.
        """
        return self._rough if self.dtype == np.float32 and not self.streamed else None

    def _rough(self, v: np.ndarray) -> np.ndarray:
        began, matrix = time.perf_counter(), self._matrix()
        turned, total = np.ascontiguousarray(v.T, np.float32), np.zeros((v.shape[1], self.n))

        def work(columns: slice) -> None:
            for rows in cut(self.n, ROWS):
                total[:, columns] += turned[:, rows] @ matrix[rows, columns]

        with spread() as each:
            each(work, cut(self.n, COLUMNS, least=cores()))
        self.seconds_multiplying += time.perf_counter() - began
        self.passes += 1
        return total.T

    def prediction_bound(self, residual: float, ridge: float) -> float:
        """Return an upper bound of ‖K(α - α*)‖, the error of the train predictions of α; it is `residual`.

        Args:
            residual: ‖Y - (K + ρI)α‖.
            ridge: ρ, at which α* is the exact solution.
        """
        return residual

    def evaluate(self, v: Float[np.ndarray, "n c"]) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "n c"]]:
        """Return the predictions K v and the differences Y - K v from the labels.

        v has k columns of coefficients α for each ridge, one ridge after the other.
        """
        predictions = self.primal_product(v)
        return predictions, np.tile(self.targets, (1, v.shape[1] // self.columns)) - predictions

    def dense(self, dtype: np.dtype | str | None = None, *, keep: bool = True) -> Float[np.ndarray, "n n"]:
        """Return K in memory, C-ordered, as an array that the caller may overwrite.

        The array is a copy of K, with one exception. For a problem with `overwrite` and `keep` = False it may be the
        array of K itself, and this problem then no longer provides products. A matrix that is not in memory yet is read
        or computed, and is stored in the result alone; later products read or compute it again.

        Args:
            dtype: Data type of the result; None: the attribute `dtype`.
            keep: Whether products of this problem are still needed.
        """
        dtype = np.dtype(dtype or self.dtype)
        if isinstance(self.gram, np.ndarray):
            array = self.gram
            own = self.overwrite and not keep and dtype == array.dtype and array.flags.c_contiguous
            if not (own and array.flags.writeable):
                return np.array(array, dtype, order="C")
            self.gram = None
            return array
        self._hold = False
        return self.gram.to_memory(dtype)

    def _reading(self) -> float:
        if not self.streamed:
            return 0.0
        shards = isinstance(self._shards, Gram)
        return reading_columns(self._shards, self.columns) if shards else self._shards.computing_columns()

    def _product(self, v: np.ndarray) -> np.ndarray:
        if self.streamed:
            return self._shards.multiply(v)
        with spread() as each:
            return multiply(self._matrix(), v, each)

    def _matrix(self) -> np.ndarray:
        """Return K as an array. If K is in shards, the first call reads them into memory."""
        if self.gram is self._shards:
            self.gram = self._shards.to_memory()
            logging.info("K of %.2f GB is held in memory", self._bytes / 1e9)
        return self.gram


class RoundedGramProblem(GramProblem):
    """Kernel ridge regression with K in float64, for solvers that factor a float32 copy of K.

    The solvers refine their solutions by products with K itself. The array K is never overwritten, and products with it
    remain available. The attribute `dtype` is float32, the type of the copy.
    """

    rounded = True

    def __init__(self, gram: Float64[np.ndarray, "n n"], targets: Float[np.ndarray, "n k"], *, memory: int = MEMORY):
        super().__init__(gram, targets, memory=memory)
        self.dtype = np.dtype(np.float32)


def fits_with_basis(n: int, columns: int, itemsize: int, memory: int) -> bool:
    """Return whether K and the vectors that block Lanczos is expected to store fit in memory together.

    If they do not fit, K is read from its shards in every product.

    Args:
        n: Number of rows and of columns of K.
        columns: Number of columns of the right-hand side.
        itemsize: Bytes per entry of K.
        memory: Available memory in bytes.
    """
    vectors = min(n, int(EXPECTED_VECTORS * columns**0.5))
    return n**2 * itemsize + 8 * n * vectors <= memory


def refuse_asymmetric(gram: Float[np.ndarray, "n n"]) -> None:
    """Raise `UserError` if K is not finite or not symmetric; the message names such an entry.

    Differences between mirrored entries of up to 1e-3 of the largest diagonal entry are allowed. K is read once.
    """
    parts = cut(len(gram), SQUARE)
    allowed = SYMMETRIC * np.abs(gram.diagonal()).max(initial=0)

    def compare(rows: slice) -> None:
        for columns in parts:
            if columns.start < rows.start:
                continue
            with np.errstate(invalid="ignore"):
                difference = np.abs(gram[rows, columns] - gram[columns, rows].T)
            if not difference.max(initial=0) <= allowed:
                i, j = np.unravel_index(np.argmax(np.where(np.isnan(difference), np.inf, difference)), difference.shape)
                i, j = int(i) + rows.start, int(j) + columns.start
                raise UserError(
                    f"K must be symmetric and finite. Received: K[{i}, {j}] = {gram[i, j]} and K[{j}, {i}] = "
                    f"{gram[j, i]}. Give the kernel between the train rows themselves."
                )

    for_each(parts, compare)
