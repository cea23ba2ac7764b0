"""Kernels of the distance between two rows, k(x, z) = f(‖x - z‖ / L), of bandwidth L.

L is given, or it is the median distance between the train rows. The Laplace, Gaussian and Matérn kernels of this form
are common baselines of kernel ridge regression. Each of them is 1 where x = z, so that the trace of an (n, n) Gram
matrix is n. Images are treated as rows.
"""

import abc
import copy

import numpy as np

from kernel_gen.kernel import OneKernel
from kernel_gen.kernels.differentiable import DifferentiableKernel
from kernel_gen.rows import Rows, prepare_rows, same_width
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64, Int64

MEDIAN_ROWS = 1000  # largest number of rows whose distances enter the median
EQUAL = 10  # rows count as equal in gradients if they are closer than this many roundings of their norms
NEAR = 1e-6  # squared distances below this share of ‖x‖² + ‖z‖² are computed from differences of the coordinates


class RadialKernel(DifferentiableKernel):
    """Base class of kernels f(‖x - z‖ / L) of bandwidth L, whose subclasses define f.

    An entry for rows of d numbers costs 2d operations in float64 and one evaluation of f. Squared distances are
    computed as ‖x‖² + ‖z‖² - 2x·z. This difference loses digits near 0, where f may be steep. Therefore it is computed
    in float64 for entries of any dtype, and squared distances below `NEAR` times ‖x‖² + ‖z‖² are computed from the
    differences of the coordinates. Computing a block needs 16 bytes of memory per entry in addition to the entries
    themselves.

    Args:
        bandwidth: L, in units of the inputs; 0: the median distance between the train rows, which `on` computes.
        dtype: Data type of the entries, "float32" or "float64".
    """

    tile = 1024
    scale = "input"

    def __init__(self, bandwidth: float = 0.0, dtype: str = "float32"):
        self.bandwidth, self.dtype = bandwidth, np.dtype(dtype)

    @abc.abstractmethod
    def profile(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return f of distances (n1, n2) in units of the bandwidth L; implementations may overwrite the argument."""

    @abc.abstractmethod
    def slope(self, distances: Float64[np.ndarray, "n1 n2"]) -> Float64[np.ndarray, "n1 n2"]:
        """Return f'(r) / r for distances r (n1, n2) in units of the bandwidth L; it may be infinite at 0.

        The gradient of f(‖x - z‖ / L) in x is this times (x - z)/L².
        """

    def on(self: OneKernel, train: np.ndarray) -> OneKernel:
        """Return the kernel with a bandwidth of 0 replaced by the median distance between the train rows.

        Args:
            train: Train rows (n, d).

        Raises `UserError` if the median distance is 0 or there are fewer than two rows.
        """
        if self.bandwidth:
            return self
        found = copy.copy(self)
        found.bandwidth = median_distance(train)
        return found

    def deciding(self, train: np.ndarray) -> np.ndarray:
        """Return the train rows whose median distance is the bandwidth: up to `MEDIAN_ROWS` of the rows (n, d)."""
        return train[median_rows(len(train))]

    def prepare(self, x: np.ndarray) -> Rows:
        """Return the rows of `x` (n, d) with their squared norms, in float64.

        Raises `UserError` for rows that are not finite.
        """
        return prepare_rows(x, np.dtype(np.float64))

    def gradients(self, points: Rows, rows: Rows, alpha: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "k m d"]:
        """Return the gradients in x of f_c(x) = Σ_i alpha_ic k(x, x_i) at m points, (k, m, d) in float64.

        With r = ‖x - z‖ / L the gradient of f(r) in x is f'(r)/r · (x - z)/L². It costs 2mnd operations for the
        distances, in float64, and 2mnd for each output, in the dtype of the entries. It needs 24mn bytes of memory.
        Rows x and z with ‖x - z‖ <= `EQUAL` · eps · √(‖x‖² + ‖z‖²), for eps of the dtype of the entries, are treated as
        equal. Such pairs contribute 0, because f'(r)/r may be unbounded there.

        Args:
            points: The m points, prepared by this kernel.
            rows: The n rows x_i, prepared by this kernel.
            alpha: Coefficients (n, k), one column for each output c.
        """
        squares = squared_distances(points, rows)
        least = EQUAL * np.finfo(self.dtype).eps
        apart = squares > least**2 * (points.squares[:, None] + rows.squares)
        distances = np.sqrt(squares, out=squares)
        distances /= self.bandwidth
        slopes = np.where(apart, self.slope(distances), 0.0).astype(self.dtype, copy=False)
        values, alpha = rows.values.astype(self.dtype, copy=False), alpha.astype(self.dtype, copy=False)
        found = np.empty((alpha.shape[1], *points.values.shape))
        for output, weights in zip(found, alpha.T, strict=True):
            np.subtract((slopes @ weights)[:, None] * points.values, slopes @ (weights[:, None] * values), out=output)
        return found / self.bandwidth**2

    def block(self, one: Rows, two: Rows, *, same: bool = False) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel (n1, n2) between two sets of rows, which `prepare` returned.

        Args:
            one: The n1 inputs of the rows.
            two: The n2 inputs of the columns.
            same: Whether `two` contains the inputs of `one`; the diagonal is then exact.

        Raises `ValueError` unless the bandwidth was given or set by `on`, and `UserError` if the two sets differ in
        their numbers of columns.
        """
        if not self.bandwidth:
            raise ValueError("The bandwidth is set by the train rows: call `on` first.")
        squares = squared_distances(one, one if same else two)
        if same:
            np.fill_diagonal(squares, 0)
        distances = np.sqrt(squares, out=squares)
        distances /= self.bandwidth
        return self.profile(distances).astype(self.dtype)


def squared_distances(one: Rows, two: Rows) -> Float64[np.ndarray, "n1 n2"]:
    """Return ‖x - z‖² between two sets of float64 rows, (n1, n2); it is at least 0, and accurate for close rows.

    Raises `UserError` if the two sets differ in their numbers of columns.
    """
    same_width(one.values, two.values)
    squares = one.values @ two.values.T
    squares *= -2
    norms = one.squares[:, None] + two.squares
    squares += norms
    near = np.nonzero(squares <= NEAR * norms)
    squares[near] = np.square(one.values[near[0]] - two.values[near[1]]).sum(axis=1)
    return squares


def median_rows(count: int) -> Int64[np.ndarray, " b"]:
    """Return the indices of up to `MEDIAN_ROWS` of `count` rows, spread evenly, whose distances enter the median."""
    return np.unique(np.linspace(0, count - 1, min(count, MEDIAN_ROWS)).astype(int))


def median_distance(x: np.ndarray) -> float:
    """Return the median of the distances ‖x_i - x_j‖ over all pairs i < j of rows of `x` (n, d).

    At most 1,000 rows, spread evenly over `x`, are used. Costs 2d operations for each pair of these rows.

    Raises `UserError` if the median is 0 or there are fewer than two rows, because the data then determine no
    bandwidth.
    """
    rows = prepare_rows(np.asarray(x)[median_rows(len(x))], np.dtype(np.float64))
    upper = np.triu_indices(len(rows), 1)
    median = float(np.median(np.sqrt(squared_distances(rows, rows)[upper]))) if len(rows) > 1 else 0.0
    if not median > 0:
        raise UserError(
            f"The median distance between {len(rows)} train rows is {median:g}, which is no bandwidth. Give one with "
            "--bandwidth."
        )
    return median
