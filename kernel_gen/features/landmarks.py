"""Landmark features: features φ with φ(x)·φ(z) ≈ k(x, z), computed from the kernel between x and m train rows.

The m train rows, called landmarks, are drawn uniformly. The kernel k must depend on inner products and norms alone. Let
K be the kernel between the landmarks, with eigenvectors v_j and with eigenvalues e_j in decreasing order. Let k(x) be
the vector of the kernel between x and all landmarks. The features are

    φ(x) = S k(x),   S = t I + Σ_{j ≤ r} (e_j^(-1/2) - t) v_j v_jᵀ,   t² = Σ_{j > r} e_j / Σ_{j > r} e_j²

With r = m, S is K^(-1/2), and φ are the features of Nyström (Williams & Seeger, NeurIPS 2000). φ(x)·φ(z) is then
exactly k(x, z) if x or z is a landmark, and a row costs m² multiplications. With r < m, only the components with the r
largest eigenvalues are those of Nyström. All others have the common factor t, with which the squared norms of φ at the
landmarks add up to the trace of K. A row then costs 2mr multiplications. The number r is 3√m, but at least 64.

For rows of d columns, the inner products x·z in k(x) cost md multiplications. To reduce this cost, rows are projected
on the p leading principal directions of the landmarks (without centring) if d is above p + 2. The number p is the
larger of 128 and m/32. Inner products are then computed from the projected rows, and norms from the whole rows; this
costs (m + d)p. The projected kernel is positive semi-definite too, because k is a power series in the correlation with
coefficients that are not negative.

Errors are Frobenius norms of φ(x)·φ(z) - k(x, z) over pairs of rows, relative to that of the kernel. Without a
projection they fall as 1/√m or faster. With p = 128 they fall more slowly: from 1.2 % at m = 1,024 to 0.8 % at 4,096 on
Fashion-MNIST. Products of different rows are more accurate than with m random features. The features are biased:
`|φ(x)|²` is too small for rows that are not landmarks, by the part of k(x, x) that the landmarks and directions do not
represent. On 5,000 rows of Fashion-MNIST with m = 4,096 this is a seventh. Both errors vanish as m grows.

The features are determined by the train rows and a random-number seed. Before the first row, K and S are computed in
float64. This takes about m²(c + 6r) multiplications, where c is the number of coordinates of a row (d, or p + 2 if rows
are projected), and 8m² bytes. Every process computes them once; if several commands share a job, each repeats this.

Features computed on two machines agree up to rounding errors if K is well conditioned. Otherwise S amplifies rounding
errors of k(x). In arithmetic of precision ε, components with e_j <= 10 ε e_1 are left out, so that errors grow by at
most 1/√(10 ε) in the components of Nyström. The factor t is 0 if the eigenvalues after the first r add up to less than
m ε times the trace of K. The features of two machines then differ by up to about √ε of their norm, which is 3e-4 in
float32.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from kernel_gen.features.function import OVERFLOW, FeatureFunction
from kernel_gen.kernel import Kernel, quiet, refuse_overflow
from kernel_gen.rows import finite_rows
from linearized.base.array_checks import refuse_not_finite
from linearized.base.blocks import for_each
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64
from linearized.settings.memory import landmark_bytes, landmark_directions, refuse_beyond_machine

BATCH = 256  # rows per batch
REFINED, ROOTS = 64, 3  # r is the larger one of REFINED and ROOTS · √m
ROUNDING = 10  # eigenvalues below this many roundings of the largest one count as 0
ITERATIONS, MORE = 4, 16  # steps of subspace iteration, and vectors in addition to those wanted


class Landmarks(FeatureFunction):
    """The settings of landmark features, which approximate a kernel; the method `on` draws landmarks from train rows.

    Args:
        kernel: Kernel k, which depends on its inputs only through inner products and norms.
        exact: The same kernel in float64.
        inputs: Number of columns d of the rows.
        count: Largest number m of landmarks, which is also the number of features.
        seed: Random-number seed of the draw of landmarks.

    Attributes:
        dim: `count`. There are fewer features if there are fewer train rows.
    """

    batch = BATCH

    def __init__(self, kernel: Kernel, exact: Kernel, inputs: int, count: int, seed: int):
        self.kernel, self.exact, self.inputs, self.dim, self.seed = kernel, exact, inputs, count, seed
        self.scale, self.dtype = kernel.scale, kernel.dtype

    def on(self, train: Float[np.ndarray, "n d"]) -> "LandmarkFeatures":
        """Return the features whose landmarks are drawn from the train rows (n, d).

        Raises `UserError` for no rows, rows of a different length, numbers that are not finite, and more landmarks than
        this machine has memory for.
        """
        if np.ndim(train) != 2 or np.shape(train)[1] != self.inputs or not len(train):
            raise UserError(f"Landmarks are rows of {self.inputs} numbers, at least 1. Received: {np.shape(train)}.")
        count = min(self.dim, len(train))
        needed = landmark_bytes(count, self.inputs, self.dtype.itemsize)
        refuse_beyond_machine(needed, f"--method=landmarks with {count:,} landmarks", "Lower --embedding_dim.")
        random = np.random.RandomState([self.seed, self.dim])
        chosen = np.sort(random.permutation(len(train))[: self.dim])
        return LandmarkFeatures(self, finite_rows(train[chosen], self.dtype), random)

    def of_batch(self, rows: Float[np.ndarray, "n d"]) -> NoReturn:
        """Raise `UserError`, because features need landmarks, which only `on` draws."""
        raise UserError(
            "Features of landmarks need the train rows. Take embedding(..., method='landmarks').on(x_train)."
        )


class Derived(NamedTuple):
    """Arrays of landmark features φ(x) = S k(x) that are computed from the landmarks alone.

    S is the symmetric matrix (m, m) of the module's docstring, and S - t I has rank r.

    Attributes:
        project: The principal directions (d, p) on which rows are projected, or None if they are not projected.
        landmarks: The coordinates of the landmarks, prepared by the kernel.
        rest: The factor t.
        right: The first factor (m, r) of S - t I.
        left: The second factor (r, m) of S - t I.
    """

    project: Float[np.ndarray, "d p"] | None
    landmarks: Any
    rest: float
    right: Float[np.ndarray, "m r"]
    left: Float[np.ndarray, "r m"]


class LandmarkFeatures(FeatureFunction):
    """Landmark features φ(x) = S k(x), where k(x) is the vector of the kernel between x and m landmarks.

    The module's docstring defines the matrix S, which is computed once, before the first row.

    Args:
        settings: The kernel and the draw of landmarks.
        landmarks: The landmarks, m train rows (m, d), in the kernel's data type.
        random: Generator of the vectors with which the searches for eigenvectors start.

    Attributes:
        dim: Number m of landmarks, which is also the number of features.
        refined: Number r of components of S that equal those of Nyström's K^(-1/2), unless some are left out.
        directions: Number p of principal directions on which rows are projected; d if rows are not projected.
    """

    batch = BATCH

    def __init__(self, settings: Landmarks, landmarks: Float[np.ndarray, "m d"], random: np.random.RandomState):
        self.dim, self.inputs = landmarks.shape
        self.kernel, self.scale, self.dtype = settings.kernel, settings.scale, settings.dtype
        self.directions = landmark_directions(self.dim, self.inputs)
        self.refined = min(self.dim, max(REFINED, round(ROOTS * math.sqrt(self.dim))))
        self._settings, self._rows, self._random = settings, landmarks, random
        self._derived: Derived | None = None
        self._lock = threading.Lock()

    def on(self, train: Float[np.ndarray, "n d"]) -> "LandmarkFeatures":
        """Return features of the same kernel and seed, whose landmarks are drawn from other train rows (n, d)."""
        return self._settings.on(train)

    def ready(self) -> "LandmarkFeatures":
        """Compute the matrix S of the features on all cores, unless it was computed before, and return the features.

        If another thread is computing S, this call waits for it.
        """
        with self._lock:
            if self._derived is None:
                with quiet():
                    self._derived = self._derive()
                self._rows = None  # no longer needed
        return self

    def of_batch(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Return φ of a batch of finite rows (n, d), (n, m)."""
        derived = self.ready()._derived
        kernel = self.kernel.block(self.kernel.prepare(self._coordinates(rows, derived.project)), derived.landmarks)
        refined = (kernel @ derived.right) @ derived.left
        kernel *= self.dtype.type(derived.rest)
        kernel += refined
        return kernel

    def _derive(self) -> Derived:
        rows, project = self._rows.astype(np.float64), None
        if self.directions < self.inputs:
            _, project = leading(lambda q: rows.T @ (rows @ q), self.inputs, self.directions, self._random)
        landmarks = self._coordinates(rows, project, landmark=True)
        rest, *factors = root(self._between(rows, project, landmarks), self.refined, self._random, self.dtype)
        return Derived(
            None if project is None else project.astype(self.dtype),
            self.kernel.prepare(landmarks.astype(self.dtype)), rest, *(one.astype(self.dtype) for one in factors),
        )  # fmt: skip

    def _between(
        self,
        rows: Float64[np.ndarray, "m d"],
        project: Float64[np.ndarray, "d p"] | None,
        landmarks: Float64[np.ndarray, "m c"],
    ) -> Float64[np.ndarray, "m m"]:
        """Return the kernel K (m, m) between the landmarks in float64, computed on all cores in batches of rows.

        Args:
            rows: The landmarks.
            project: The principal directions on which rows are projected, or None if they are not projected.
            landmarks: The coordinates of the landmarks for the columns of K, as `_coordinates` returns them.
        """
        kernel, entries = self._settings.exact, np.empty((self.dim, self.dim))
        columns = kernel.prepare(landmarks)

        def fill(batch: slice) -> None:
            with quiet():
                entries[batch] = kernel.block(kernel.prepare(self._coordinates(rows[batch], project)), columns)
            refuse_overflow(entries[batch], ("the landmarks", batch.start), ("the landmarks", 0))

        for_each([slice(start, start + BATCH) for start in range(0, self.dim, BATCH)], fill)
        return entries

    def _coordinates(
        self, rows: Float[np.ndarray, "n d"], project: Float[np.ndarray, "d p"] | None, *, landmark: bool = False
    ) -> Float[np.ndarray, "n c"]:
        """Return the p projections of each row and two further columns, with which the row keeps its norm.

        One of the two columns is the norm of the row's part outside the projection, and the other one is 0. Landmarks
        use the second column and all other rows the first one, so that these norms do not affect inner products. At
        scale "stax" the result is multiplied by √((p + 2)/d). Without a projection, the rows are returned unchanged.

        Args:
            rows: Rows (n, d).
            project: The principal directions (d, p), or None if rows are not projected.
            landmark: Whether the rows are the landmarks.

        Raises `UserError` if projections or norms overflow.
        """
        if project is None:
            return rows
        out = np.zeros((len(rows), self.directions + 2), rows.dtype)
        inside = np.matmul(rows, project, out=out[:, : self.directions])
        squares = np.einsum("nd,nd->n", rows, rows) - np.einsum("np,np->n", inside, inside)
        out[:, self.directions + landmark] = np.sqrt(np.maximum(squares, 0))
        if self.scale == "stax":  # the kernel divides by the number of columns that it gets
            out *= out.dtype.type(math.sqrt(out.shape[1] / self.inputs))
        refuse_not_finite(out, "Projected rows", OVERFLOW)
        return out


def root(
    matrix: Float64[np.ndarray, "m m"], count: int, random: np.random.RandomState, dtype: np.dtype
) -> tuple[float, Float64[np.ndarray, "m r"], Float64[np.ndarray, "r m"]]:
    """Return an approximation t I + B C of the inverse square root of a positive semi-definite matrix K, as (t, B, C).

    On the eigenvectors of the `count` largest eigenvalues the approximation is exact, unless an eigenvalue is 0 up to
    rounding errors. On all other eigenvectors the approximation is the number t, with which (t I + B C) K² (t I + B C)
    has the same trace as K. If the trace of K without the `count` largest eigenvalues is 0 up to rounding errors, t is
    0.

    Args:
        matrix: K (m, m), symmetric up to rounding.
        count: Number of eigenvectors.
        random: Generator of the vectors with which the search for eigenvectors starts.
        dtype: Data type of the vectors that the result multiplies. Its precision determines what counts as 0.
    """
    values, vectors = leading(lambda q: matrix @ q, len(matrix), count, random)
    precision = float(np.finfo(dtype).eps)
    there = values > ROUNDING * precision * values[0]
    values, vectors = values[there], vectors[:, there]
    trace = square = 0.0
    if count < len(matrix):
        scaled = vectors * values
        for start in range(0, len(matrix), BATCH):
            part = matrix[start : start + BATCH] - scaled[start : start + BATCH] @ vectors.T
            trace += float(np.trace(part, offset=start))
            square += float(np.einsum("ij,ij->", part, part))
    least = len(matrix) * precision * float(np.trace(matrix))
    rest = math.sqrt(trace / square) if trace > least and square > 0 else 0.0
    return rest, vectors, (vectors * (values**-0.5 - rest)).T


def leading(
    multiply: Callable[[np.ndarray], np.ndarray], size: int, count: int, random: np.random.RandomState
) -> tuple[Float64[np.ndarray, " r"], Float64[np.ndarray, "m r"]]:
    """Return the largest eigenvalues of a positive semi-definite matrix, in decreasing order, and their eigenvectors.

    They are computed by subspace iteration, whose error is smallest for the largest eigenvalues.

    Args:
        multiply: Function that returns the product of the matrix with a float64 array (m, columns).
        size: Number of rows m of the matrix.
        count: Number of eigenvalues.
        random: Generator of the first vectors.

    Raises `UserError` if a product overflows.
    """

    def product(basis: np.ndarray) -> np.ndarray:
        found = multiply(basis)
        refuse_not_finite(found, "Products with the landmarks", "Scale the inputs, or lower weight_std.")
        return found

    width = min(count + MORE, size)
    basis = np.eye(size) if width == size else random.standard_normal((size, width))
    for _ in range(ITERATIONS if width < size else 0):
        basis = np.linalg.qr(product(basis))[0]
    values, vectors = np.linalg.eigh(basis.T @ product(basis))
    order = np.argsort(-values)[:count]
    return values[order], basis @ vectors[:, order]
