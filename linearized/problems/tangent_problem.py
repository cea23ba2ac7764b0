"""The neural-tangent (NT) model as a least-squares problem over its readout, bias and first-layer directions.

    f_j(x) = Σ_i relu(w_i·x) a_ij + c_j + Σ_i a⁰_ji step(w_i·x) g_i·x

Here f_j is the output for class j, one of k classes. The N hidden units have fixed weights w_i, the columns of W
(d, N), and the fixed readout a⁰ (k, N) of the initialisation. The readout a, the bias c and the directions g_i, the
rows of G (N, d), are trained. They are stacked in one column v = [a, c, G] and have the same penalty.

A is the matrix with A v = f on the n train rows X (n, d). By default, as published by Ghorbani et al. (2020), all
classes share G, which couples the outputs: A is (nk) × (Nk + k + Nd), and its rows are ordered by data point, then by
class. With Z = X W, a product takes 2nNd operations for G in addition to those for Z. These are X Gᵀ in A v, and
(step(Z) ∘ (U a⁰))ᵀX in Aᵀu, where U (n, k) is u as a matrix.

A Aᵀ has a closed form, see `tangent_tiles`. If each class has its own directions, A Aᵀ is 0 between different classes,
and the problem splits into k independent problems of n rows. In the dual, where v = Aᵀα, predictions for inputs x can
be computed without v as K(x, X)α, where K is the kernel of the model's features.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.scalar_functions import relu, step
from linearized.base.shapes import Float, Float32, Float64
from linearized.problems.array_module import block_size, blocks, namespace, to_device, to_host
from linearized.problems.gram_problem import GramProblem, RoundedGramProblem
from linearized.problems.least_squares import MEMORY, LeastSquares, ProblemWork, cheapest_mode, sample_rows
from linearized.problems.tangent_layout import Parameters, TangentLayout
from linearized.problems.tangent_tiles import TangentTile, kernels
from linearized.solvers.linear.solution import finite


class TangentProblem(LeastSquares):
    """NT model as a least-squares problem over its readout a (N, k), bias c (k) and first-layer directions G (N, d).

    The output for class j, one of k, is Σ_i relu(w_i·x) a_ij + c_j + Σ_i a⁰_ji step(w_i·x) g_i·x, with fixed weights
    w_i and readout a⁰ of N hidden units i. a, c and G (rows g_i) are trained, and stacked in this order in one column
    v. A is the matrix with A v = outputs on the n train rows.

    Args:
        x: Inputs (n, d) in float32; may be a memory map.
        y: Labels or one-hot rows (n, k).
        weights: W (d, N), the fixed first layer.
        readout: a⁰ (k, N), the fixed readout at initialisation.
        per_class: Whether every class has directions of its own, G (k, N, d); otherwise all classes share them.
        memory: Budget in bytes for X W or a Gram matrix. Temporary arrays and the solver's vectors are not included.
        mode: What stays in memory between products: "kept" (X W, 4nN bytes), "recomputed" (nothing; X W is computed in
            every pass) or, if A has fewer rows than columns, "gram" (A Aᵀ, formed once). None: the fastest mode that
            fits in memory.
        xp: Array library of the computation; None: keras.ops on a GPU and NumPy elsewhere.

    Raises:
        UserError: If the shapes do not agree, a label is not finite, or "gram" is given for too many rows.
    """

    def __init__(
        self, x: Float32[np.ndarray, "n d"], y: Float[np.ndarray, "n k"], weights: Float32[np.ndarray, "d N"],
        readout: Float32[np.ndarray, "k N"], *, per_class: bool = False, memory: int = MEMORY, mode: str | None = None,
        xp: Any = None,
    ):  # fmt: skip
        (n, dim), units, k = x.shape, weights.shape[1], y.shape[1]
        if len(y) != n or len(weights) != dim or readout.shape != (k, units):
            raise UserError(
                f"Inputs (n, d), labels (n, k), weights (d, N) and readout (k, N) must agree. Received: {x.shape}, "
                f"{y.shape}, {weights.shape}, {readout.shape}."
            )
        self.layout = TangentLayout(units, k, dim, per_class)
        params, parts = self.layout.params, k if per_class else 1
        use, rows = 2 * dim * parts, n * k
        if mode == "gram" and rows >= params:
            raise UserError(
                f"NT forms A Aᵀ only with fewer rows than parameters. Received: {rows} rows, {params} parameters."
            )
        numbers = parts * (rows // parts) ** 2  # of A Aᵀ, without the blocks that are 0
        squared = (1 + self._class_pairs) * n + n * dim / units if rows < params else math.inf
        self.held = {"kept": 4 * n * units, "gram": 8 * numbers}
        gram_bytes = 8 * numbers + max(24 * n**2, 4 * (rows // parts) ** 2)
        best = cheapest_mode(
            entries=n * units, make=dim, use=use, form=int(squared) if rows < params else 0, columns=1,
            side=math.isqrt(numbers), memory=memory, kept_bytes=self.held["kept"],
            gram_bytes=gram_bytes if rows < params else math.inf,
        )  # fmt: skip
        super().__init__(y.reshape(-1, 1), params, n, memory, mode or best)
        self.xp = namespace() if xp is None else xp
        self._x, self._weights, self._readout = (to_device(self.xp, array) for array in (x, weights, readout))
        self._gram: list[np.ndarray] | None = None
        self._formed_bytes = gram_bytes
        modes = {"recomputed": 0, "kept": self.held["kept"]} | ({"gram": gram_bytes} if rows < params else {})
        if self.xp is np:
            modes = modes if mode is None else {mode: modes[mode]}
            self.work = ProblemWork(n * units, dim, use, False, squared, True, parts, modes, STEPS)

    @property
    def exact_gram(self) -> bool:
        """Whether A Aᵀ is in memory in float64, or will be at the next product."""
        return self.xp is np and (self._gram is not None or self.mode == "gram")

    @property
    def formed_bytes(self) -> int:
        """Bytes of memory that a solver needs to form A Aᵀ and reduce it to a band matrix.

        That is the size of A Aᵀ in float64, plus the size of the working arrays of forming or of reducing, whichever is
        larger.
        """
        return self._formed_bytes

    @property
    def _class_pairs(self) -> int:
        """Number of pairs of classes whose block of A Aᵀ is not 0."""
        return self.layout.outputs ** (1 if self.layout.per_class else 2)

    @functools.cached_property
    def _z(self) -> Any:
        """The inputs of the hidden units, X W (n, N), computed at the first use; None unless the mode is "kept"."""
        held = self.held.get(self.mode, 0)
        logging.info(
            "tangent features: %s, %d x %d, %.2f GB in memory", self.mode, self.n, self.layout.units, held / 1e9
        )
        return self.xp.matmul(self._x, self._weights) if self.kept else None

    def mean_trace(self) -> float:
        """Return the trace of A Aᵀ divided by the number n of data points, estimated from about 64 rows."""
        x = to_host(self.xp, self._x[sample_rows(self.n)]).astype(np.float64)
        z = x @ to_host(self.xp, self._weights)
        squares = np.square(to_host(self.xp, self._readout), dtype=np.float64).sum(axis=0)
        tangents = np.square(x).sum(axis=1) * (step(z, np) ** 2 @ squares)
        return float(np.mean(self.layout.outputs * (np.square(relu(z, np)).sum(axis=1) + 1) + tangents))

    def forward(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "rows c"]:
        """Return A v, the model's outputs on the train rows for the parameters in each column of v (p, c).

        Rows of the result (n k, c) are ordered by data point, then by class.
        """
        return self.layout.stack(self._outputs(v, self._x, self._z))

    def adjoint(self, u: Float[np.ndarray, "rows c"], *, exact: bool = False) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u for the matrix A (n k, p) of the model on the train rows.

        Args:
            u: Columns (n k, c), with rows ordered by data point, then by class.
            exact: Whether products are computed in float64; otherwise in float32.
        """
        u = self.layout.unstack(u)
        total = self.layout.zeros(len(u))
        for rows, x in self._row_blocks():
            self._add_adjoint(total, x, self._tiles(rows), u[:, rows], exact)
        return self.layout.pack(total)

    def dual_product(self, u: Float[np.ndarray, "rows c"]) -> Float64[np.ndarray, "rows c"]:
        """Return A Aᵀ u for columns u (n k, c), by a product with the Gram matrix A Aᵀ if it is formed.

        Otherwise it takes one pass over X W, one block of hidden units after another.
        """
        if self.mode == "gram" or self._gram is not None:
            grams = self._gram_matrices()
            parts = u.reshape(len(grams[0]), len(grams), -1)  # rows are ordered by data point, then by class
            products = [gram @ parts[:, i] for i, gram in enumerate(grams)]
            return np.stack(products, axis=1).reshape(u.shape)
        u = self.layout.unstack(u)
        f = np.zeros(u.shape) + u.sum(axis=1, keepdims=True)
        all_rows = blocks(self.n, _ROWS)
        for units in self._unit_blocks(self.n):
            z = [self._hidden(self._x, self._z, rows, units) for rows in all_rows]
            part = Parameters(0.0, 0.0, 0.0)
            for rows, tile in zip(all_rows, z, strict=True):
                a, g = self._tile(self._x[rows], tile, units).adjoint(u[:, rows], self.layout)
                part = Parameters(part.a + a, 0.0, part.g + g)
            for rows, tile in zip(all_rows, z, strict=True):
                f[:, rows] += self._tile(self._x[rows], tile, units).outputs(part, self.layout)
        return self.layout.stack(f)

    def primal_product(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "p c"]:
        """Return AᵀA v for columns v (p, c), by one pass over X W, one block of rows after another."""
        return self._through_rows(v, None)[1]

    def evaluate(self, v: Float[np.ndarray, "p c"]) -> tuple[Float64[np.ndarray, "rows c"], Float64[np.ndarray, "p c"]]:
        """Return the outputs A v (n k, c) and the products Aᵀ(y - A v) (p, c), multiplied in float64.

        y (n k, 1) are the labels, ordered like the rows of A v: by data point, then by class. The method takes one pass
        over X W in every mode.

        Args:
            v: Parameters (p, c), one column for each ridge; a column contains the parameters of all classes.
        """
        return self._through_rows(v, self.layout.unstack(self.targets), exact=True)

    def adjoint64(self, u: Float64[np.ndarray, "rows c"]) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u for columns u (n k, c), multiplied in float64."""
        return self.adjoint(u, exact=True)

    def predict(self, x: Float32[np.ndarray, "m d"], v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "m ck"]:
        """Return the outputs (m, c k) of the model for other inputs x (m, d), computed in blocks of inputs.

        Columns of the result are ordered by column of the parameters v (p, c), then by class.
        """
        f = self._outputs(v, to_device(self.xp, x), None)
        return f.transpose(1, 0, 2).reshape(len(x), -1)

    def predicts_by_kernel(self, rows: int, columns: int) -> bool:
        """Return whether predictions as K(x, X)α take fewer operations than computing v = Aᵀα and the outputs for v.

        K(x, X) is the kernel of the model's features between inputs x and the train rows X, and α are the dual
        coefficients.

        Args:
            rows: Number of inputs x.
            columns: Number of columns of the dual coefficients α.
        """
        if not self.dual or self.xp is not np:
            return False
        by_values = columns * math.prod(self.layout.directions) * (2 * self.n + rows)
        return 2 * rows * self.n * self.layout.units * (1 + self._class_pairs) < by_values

    def predict_dual(
        self, x: Float32[np.ndarray, "m d"], alpha: Float[np.ndarray, "rows c"]
    ) -> Float64[np.ndarray, "m ck"]:
        """Return the outputs K(x, X)α (m, c k) of the model for other inputs x (m, d), computed in blocks in float64.

        K(x, X) is the kernel of the features between x and the train rows X. Columns of the result are ordered by
        column of the dual coefficients α (n k, c), then by class.
        """
        f = np.empty((len(x), alpha.shape[1], self.layout.outputs))
        size = max(16, min(_ROWS, self.memory // (32 * self.n * self.layout.outputs**2)))
        for rows in blocks(len(x), size):
            grams = self._kernels(to_device(self.xp, x[rows]))
            parts = alpha.reshape(grams[0].shape[1], len(grams), -1)
            products = [gram @ parts[:, i] for i, gram in enumerate(grams)]  # (m, c) for each class, or (m k, c)
            joined = np.stack(products, axis=1).reshape(-1, self.layout.outputs, alpha.shape[1])
            f[rows] = joined.transpose(0, 2, 1)
        return f.reshape(len(x), -1)

    # Passes over row blocks. f and u are stored as (c, rows, k), parameters as `Parameters`.

    def _outputs(self, v: np.ndarray, x: Any, z: Any) -> np.ndarray:
        parameters = self.layout.unpack_single(v)
        f = np.empty((v.shape[1], x.shape[0], self.layout.outputs))
        for rows in blocks(x.shape[0], _ROWS):
            f[:, rows] = parameters.bias[:, None]
            for units in self._unit_blocks(_ROWS):
                tile = self._tile(x[rows], self._hidden(x, z, rows, units), units)
                f[:, rows] += tile.outputs(parameters.cut(units), self.layout)
        return f

    def _through_rows(
        self, v: np.ndarray, minuend: np.ndarray | None, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return A v (n k, c), and Aᵀ(A v) or Aᵀ(Y - A v), computed in one pass over blocks of rows.

        Args:
            v: Parameters (p, c).
            minuend: Labels Y (1, n, k) of the second result Aᵀ(Y - A v); None: the second result is Aᵀ(A v).
            exact: Whether products are computed in float64; otherwise in float32.
        """
        parameters = self.layout.unpack(v) if exact else self.layout.unpack_single(v)
        total = self.layout.zeros(v.shape[1])
        f = np.empty((v.shape[1], self.n, self.layout.outputs))
        for rows, x in self._row_blocks():
            tiles = self._tiles(rows)
            f[:, rows] = parameters.bias[:, None]
            for units, z in tiles:
                f[:, rows] += self._tile(x, z, units, exact).outputs(parameters.cut(units), self.layout)
            u = f[:, rows] if minuend is None else minuend[:, rows] - f[:, rows]
            self._add_adjoint(total, x, tiles, u, exact)
        return self.layout.stack(f), self.layout.pack(total)

    def _add_adjoint(
        self, total: Parameters, x: Any, tiles: list[tuple[slice, Any]], u: np.ndarray, exact: bool
    ) -> None:
        total.bias[:] += u.sum(axis=1)
        for units, z in tiles:
            a, g = self._tile(x, z, units, exact).adjoint(u, self.layout)
            total.a[:, units] += a
            total.g[..., units, :] += g

    def _hidden(self, x: Any, z: Any, rows: slice, units: slice) -> Any:
        """Return the part of x W for some rows and hidden units, as a slice of `z` or by a product.

        Args:
            x: All inputs.
            z: x W for all rows and units, if it is in memory; otherwise None, and the part is computed.
            rows: The rows.
            units: The hidden units.
        """
        return self.xp.matmul(x[rows], self._weights[:, units]) if z is None else z[rows, units]

    def _tile(self, x: Any, z: Any, units: slice, exact: bool = False) -> TangentTile:
        """Return the tile of some rows and hidden units.

        Args:
            x: Inputs (b, d).
            z: Inputs of the units, x W[:, units], (b, B).
            units: Indices of the units.
            exact: Whether products are computed in float64; otherwise in float32.
        """
        return TangentTile.of(self.xp, x, z, self._readout[:, units], exact)

    def _row_blocks(self) -> list[tuple[slice, Any]]:
        size = block_size(self.layout.units, self.memory)
        return [(rows, self._x[rows]) for rows in blocks(self.n, size)]

    def _unit_blocks(self, rows: int) -> list[slice]:
        return blocks(self.layout.units, block_size(rows, self.memory))

    def _tiles(self, rows: slice) -> list[tuple[slice, Any]]:
        """Return X W for some train rows in parts, as pairs of a slice of hidden units and X W for these units."""
        units = self._unit_blocks(_ROWS)
        return [(part, self._hidden(self._x, self._z, rows, part)) for part in units]

    def formed(self, moment: Float64[np.ndarray, "p columns"] | None) -> Iterator[GramProblem]:
        """Yield the ridge problem with the Gram matrix A Aᵀ as `GramProblem` objects, for solvers that factor a matrix.

        If every class has its own directions, classes are independent, and there is one `GramProblem` for each class;
        otherwise there is one. A Aᵀ stays in memory for later products.

        Args:
            moment: AᵀY, which is not needed.

        Raises `UserError` if A has at least as many rows as columns.
        """
        if not self.dual:
            yield from super().formed(moment)
        for i, gram in enumerate(self._gram_matrices()):
            finite(gram.diagonal())
            targets = self.targets.reshape(len(gram), -1)[:, i : i + 1]
            if self.xp is np:
                yield RoundedGramProblem(gram, targets, memory=self.memory)
            else:
                yield GramProblem(gram.astype(np.float32), targets, memory=self.memory, overwrite=True)

    def _gram_matrices(self) -> list[Float64[np.ndarray, "m m"]]:
        """Return the blocks on the diagonal of the Gram matrix A Aᵀ, formed once.

        If every class has its own directions, there is one matrix (n, n) for each class; otherwise one matrix of all
        rows.
        """
        if self._gram is None:
            self._gram = self._kernels(self._x)
        return self._gram

    def _kernels(self, x: Any) -> list[np.ndarray]:
        """Return K(x, X), the kernel of the model's features, between inputs x (m, d) and the train rows X.

        The result is a list of one matrix (m, n) for each class, or of one matrix (m k, n k) if classes share
        directions.
        """
        own = x is self._x

        def tile(x: Any, z: Any, units: slice) -> TangentTile:
            return self._tile(x, self._hidden(x, z, slice(None), units), units, exact=self.xp is np)

        def pairs() -> Iterator[tuple[TangentTile, TangentTile]]:
            for units in self._unit_blocks(max(x.shape[0], self.n) * self.layout.outputs):
                right = tile(self._x, self._z, units)
                yield right if own else tile(x, None, units), right

        return kernels(pairs(), x.shape[0], self.n, self.layout.outputs, per_class=self.layout.per_class)


STEPS = 1.65  # of block Lanczos, see `ProblemWork.steps`: measured 1.6 to 1.75 on Fashion-MNIST, .75 on Gaussian data
_ROWS = 2048  # rows of a tile that is computed for immediate use
