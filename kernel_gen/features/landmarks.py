"""Landmark features of kernels k that depend on inner products and norms: functions of the kernel with m train rows.

Let K be the kernel between m landmarks, which are drawn uniformly among the train rows, with eigenvalues e_j in
decreasing order and eigenvectors v_j. For the vector k(x) of the kernel between x and all landmarks, the features are

    φ(x) = S k(x),   S = t I + Σ_{j ≤ r} (e_j^(-1/2) - t) v_j v_jᵀ,   t² = Σ_{j > r} e_j / Σ_{j > r} e_j²

With r = m, S is K^(-1/2), φ are the features of Nyström (Williams & Seeger, NeurIPS 2000), and φ(x)·φ(z) is k(x, z)
exactly if x or z is a landmark. They cost m² multiplications per row. With r < m only the components with the r largest
eigenvalues are those of Nyström, and one factor t serves all others, chosen such that φ has the trace of K on the
landmarks. This costs 2mr multiplications; r is 3√m, and at least 64. The error of products then falls as 1/√m or faster
for rows that are not projected (below); with p = 128 directions, which m <= 4,096 has, it falls more slowly: from 1.2 %
at m = 1,024 to 0.8 % at 4,096 on Fashion-MNIST.

The inner products x·z in k(x) cost md. For d above p + 2 they are those of the projections on the p leading principal
directions of the landmarks, about their origin, while norms are those of the whole rows, which costs (m + d)p.
Projected kernels are positive semi-definite as well: k is a power series in the correlation with coefficients that are
not negative.

The features are a function of the train rows and the seed. They are biased: squared norms `|φ(x)|²` of rows that are no
landmarks are too small by what m landmarks and p directions do not represent (by a seventh on 5,000 rows of
Fashion-MNIST with m = 4,096), and products of different rows are more accurate than those of as many random features.
Both errors vanish as m grows.

Before the first row, K and S are computed in float64, which takes about m²(c + 6r) multiplications for rows with c
coordinates, and 8m² bytes. Each process does this once, so that a job that is divided among commands pays it in each.

S does not depend on the signs of eigenvectors. Where K is well conditioned, machines agree up to rounding errors.
Where it is not, S amplifies those of k(x), by 1/√(10 ε) at most for components of Nyström in arithmetic of precision
ε, because those with e_j <= 10 ε e_1 are left out, and t is 0 where the other eigenvalues are below m ε of the trace.
Features of two machines then differ by up to about √ε of their norm, 3e-4 in float32.
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
    """The settings of landmark features before their landmarks are known; `on` returns the features.

    Args:
        kernel: Kernel k, which depends on its inputs only through inner products and norms.
        exact: The same kernel in float64.
        inputs: Number of columns d of the rows.
        count: Largest number m of landmarks.
        seed: Random-number seed by which landmarks are drawn.

    Attributes:
        dim: `count`; the features have fewer if there are fewer train rows.
    """

    batch = BATCH

    def __init__(self, kernel: Kernel, exact: Kernel, inputs: int, count: int, seed: int):
        self.kernel, self.exact, self.inputs, self.dim, self.seed = kernel, exact, inputs, count, seed
        self.scale, self.dtype = kernel.scale, kernel.dtype

    def on(self, train: Float[np.ndarray, "n d"]) -> "LandmarkFeatures":
        """Return the features with landmarks among the train rows (n, d).

        Raises `UserError` for no rows, rows of another length, numbers that are not finite, and more landmarks than
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
        """Raise `UserError`, because there are no landmarks yet."""
        raise UserError(
            "Features of landmarks need the train rows. Take embedding(..., method='landmarks').on(x_train)."
        )


class Derived(NamedTuple):
    """What is computed from the landmarks.

    Attributes:
        project: The principal directions (d, p), or None if rows are not projected.
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
    """The features S k(x) of the kernel between x and landmarks, see the module's docstring.

    S is computed once, before the first row.

    Args:
        settings: The kernel and how landmarks are drawn.
        landmarks: Rows (m, d) in the kernel's data type.
        random: Generator of the vectors with which the searches for eigenvectors start.

    Attributes:
        dim: Number m of landmarks.
        refined: Largest number r of components that are those of Nyström.
        directions: Number p of principal directions; d if rows are not projected.
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
        """Return features of the same kernel and seed with landmarks among other train rows (n, d)."""
        return self._settings.on(train)

    def ready(self) -> "LandmarkFeatures":
        """Compute S on all cores, unless it is there already; other threads wait for it."""
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
        """Return the kernel K between the landmarks, computed on all cores in batches of rows.

        Args:
            rows: The landmarks.
            project: The principal directions, or None if rows are not projected.
            landmarks: The coordinates of the landmarks as columns of K.
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
        """Return coordinates of rows or of landmarks: projections, and columns that keep the norms of the rows.

        The norms beyond the projection are in one column for rows and in another one for landmarks, so that they do not
        enter inner products.

        Args:
            rows: Rows (n, d).
            project: The principal directions, or None if rows are not projected.
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

    It is exact on the eigenvectors of the `count` largest eigenvalues, of which those that are 0 up to rounding are
    left out, and the factor t on all others keeps the trace (see the module's docstring). It is 0 if the others have a
    trace of rounding errors alone.

    Args:
        matrix: K (m, m), symmetric up to rounding.
        count: Number of eigenvectors.
        random: Generator of the vectors with which the search for eigenvectors starts.
        dtype: Data type of the vectors that the result multiplies, whose precision decides what counts as 0.
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

    They are found by subspace iteration, whose error is smallest for the largest eigenvalues.

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
