"""Rows of inputs with their squared norms, which are computed once, for kernels that depend on inner products."""

import dataclasses

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of inputs with their squared norms, as `prepare_rows` returns them.

    Slices of this object select rows.

    Attributes:
        values: The rows (n, d) in a kernel's dtype.
        squares: ‖x‖² of each row, (n,), summed in float64.
    """

    values: Float[np.ndarray, "n d"]
    squares: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> "Rows":
        return Rows(self.values[part], self.squares[part])


def prepare_rows(x: np.ndarray, dtype: np.dtype) -> Rows:
    """Return the rows of `x` (n, d), converted to `dtype`, with their squared norms.

    Raises `UserError` unless `x` is two-dimensional with d >= 1, and for NaN or infinite entries.
    """
    values = _rows_of(x, dtype)
    squares = np.einsum("nd,nd->n", values, values, dtype=np.float64)
    if not np.isfinite(squares).all():  # cheaper than checking every entry
        _refuse_infinite(values)
    return Rows(values, squares)


def finite_rows(x: np.ndarray, dtype: np.dtype) -> Float[np.ndarray, "n d"]:
    """Return `x` (n, d) in `dtype` and in row-major order.

    Raises `UserError` unless `x` is two-dimensional with d >= 1, and for NaN or infinite entries.
    """
    values = _rows_of(x, dtype)
    _refuse_infinite(values)
    return values


def _rows_of(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if np.ndim(x) != 2 or not np.shape(x)[1]:
        raise UserError(f"Inputs are rows (n, d) with d at least 1. Received: shape {np.shape(x)}.")
    return np.ascontiguousarray(x, dtype)


def _refuse_infinite(values: np.ndarray) -> None:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise UserError(
            f"Inputs must be finite numbers of {values.dtype}. Received: {bad.sum()} rows with NaN or infinity, "
            f"the first is row {bad.argmax()}. Correct or remove them."
        )


def same_width(one: Float[np.ndarray, "n1 d1 ..."], two: Float[np.ndarray, "n2 d2 ..."]) -> None:
    """Raise `UserError` if the second axes of `one` (n1, d1, ...) and `two` (n2, d2, ...) differ in length."""
    if one.shape[1] != two.shape[1]:
        raise UserError(
            f"Both inputs must have the same number of columns. Received: {one.shape[1]} and {two.shape[1]}."
        )


def inner_products(one: Rows, two: Rows) -> Float[np.ndarray, "n1 n2"]:
    """Return x·z for each row x of `one` and each row z of `two`, (n1, n2), in the dtype of the rows.

    Raises `UserError` if the two sets differ in their numbers of columns.
    """
    same_width(one.values, two.values)
    return one.values @ two.values.T


def mirror(matrix: Float[np.ndarray, "n n"], step: int = 256) -> None:
    """Replace the lower triangle of a matrix by the transpose of its upper triangle, in place.

    Args:
        matrix: The square matrix; its lower triangle is not read.
        step: Number of rows that are replaced together.
    """
    for start in range(0, len(matrix), step):
        rows = slice(start, start + step)
        matrix[rows, :start] = matrix[:start, rows].T
        square = matrix[rows, rows]
        square[...] = np.triu(square) + np.triu(square, 1).T
