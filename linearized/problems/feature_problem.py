"""The random-features (RF) model as ridge regression on the ReLU features A = [relu(X W), 1].

X (n, d) are the inputs and W (d, N) the fixed first layer. The column of ones is for the bias, which is penalised too.
The features are processed in parts called tiles, T, in one of two ways. A tile "by units" contains the features of b
hidden units for all n inputs, an array (b, n). A tile "by rows" contains all features of b inputs, an array (b, N + 1).
One pass over the tiles computes Σ Tᵀ(T u), which is A Aᵀu for tiles by units and AᵀA u for tiles by rows. In the shapes
below, "short" is the number of columns of a tile (n or N + 1), and "long" the number of rows of all tiles together
(N + 1 or n).
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.base.scalar_functions import relu
from linearized.base.shapes import Float, Float32, Float64
from linearized.problems.array_module import block_size, blocks, namespace, to_device, to_host
from linearized.problems.gram_problem import GramProblem
from linearized.problems.least_squares import (
    FORMED,
    MEMORY,
    LeastSquares,
    ProblemWork,
    cheapest_mode,
    sample_rows,
    skinny,
)
from linearized.solvers.linear.solution import finite
from linearized.storage.products import cut

CACHE = 5 * 2**15  # numbers in a tile of kept features, which is read twice and should stay in the L2 cache in between
DEEP = 2048  # rows of kept features per product of a tile with itself
STEPS = 3.2  # of block Lanczos, see `ProblemWork.steps`: 3.0 to 3.3 on Fashion-MNIST, 1.5 on Gaussian coordinates
WIDE = 512  # rows of a tile that are converted to float64 together


class FeatureProblem(LeastSquares):
    """RF model as a least-squares problem min ‖A v - Y‖² + ρ‖v‖² with the features A = [relu(X W), 1], (n, N + 1).

    v (N + 1, k) consists of the trained readout a (N, k) and, as its last row, the bias c (k), which is penalised too.

    Args:
        x: Inputs X (n, d) in float32; may be a memory map.
        y: Labels or one-hot rows (n, k).
        weights: W (d, N), the fixed first layer.
        memory: Budget in bytes for features or a Gram matrix. Tiles and the solver's vectors are not included.
        mode: "kept": the features are computed once and take 4 n N bytes; "recomputed": they are computed in every
            pass; "gram": the smaller of AᵀA and AAᵀ is formed once, and the features are recomputed where needed. None:
            the fastest that fits.
        xp: Array library of the computation; None: keras.ops on a GPU and NumPy elsewhere.

    Raises:
        UserError: If the shapes do not agree, or a label is not finite.
    """

    def __init__(
        self, x: Float32[np.ndarray, "n d"], y: Float[np.ndarray, "n k"], weights: Float32[np.ndarray, "d N"], *,
        memory: int = MEMORY, mode: str | None = None, xp: Any = None,
    ):  # fmt: skip
        (n, dim), units = x.shape, weights.shape[1]
        if len(y) != n or len(weights) != dim:
            raise UserError(
                f"Inputs (n, d), labels (n, k) and weights (d, N) must agree. Received: {x.shape}, {y.shape}, "
                f"{weights.shape}."
            )
        side, kept_bytes = min(n, units + 1), 4 * n * (units + 1)
        best = cheapest_mode(
            entries=n * units, make=dim, use=skinny(y.shape[1]), form=side // 2, columns=y.shape[1], side=side,
            memory=memory, kept_bytes=kept_bytes, gram_bytes=FORMED * side**2,
        )  # fmt: skip
        super().__init__(y, units + 1, n, memory, mode or best)
        self.units = units
        self.held = {"kept": kept_bytes, "gram": 8 * side**2}
        self.xp = namespace() if xp is None else xp
        self._x, self._weights = to_device(self.xp, x), to_device(self.xp, weights)
        self._gram: np.ndarray | None = None
        self._whole: np.ndarray | None = None  # kept features as one array; the stored tiles are views of it
        modes = {"recomputed": 0, "kept": kept_bytes, "gram": FORMED * side**2}
        if self.xp is np:
            modes = modes if mode is None else {mode: modes[mode]}
            self.work = ProblemWork(n * (units + 1), dim, 0, True, side, False, 1, modes, STEPS)

    def mean_trace(self) -> float:
        """Return the mean square norm of a row of the feature matrix A, estimated from about 64 rows."""
        tile = to_host(self.xp, self._row_tile(self._x[sample_rows(self.n)]))
        return float(np.square(tile, dtype=np.float64).sum(axis=1).mean())

    @property
    def block(self) -> int:
        """Number of columns per product that block Lanczos uses, at least the number of outputs.

        It is at least 4 if features are kept in memory, and larger if they are recomputed from inputs with many
        columns.
        """
        return max(self.columns, {"kept": 4, "recomputed": min(64, self._x.shape[1] // 8)}.get(self.mode, 1))

    def forward(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "n c"]:
        """Return A v for the features A = [relu(X W), 1] (n, p) of the train rows and columns v (p, c)."""
        return self._scatter(v) if self._by_units else self._gather(v)

    def adjoint(self, u: Float[np.ndarray, "n c"]) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u for the features A = [relu(X W), 1] (n, p) of the train rows and columns u (n, c)."""
        return self._gather(u) if self._by_units else self._scatter(u)

    def dual_product(self, u: Float[np.ndarray, "n c"]) -> Float64[np.ndarray, "n c"]:
        """Return A Aᵀ u for the features A (n, p), by a product with the Gram matrix A Aᵀ if it is kept.

        Otherwise it takes one pass over the features, or two if they are kept in tiles of rows.
        """
        if self.mode == "gram" and self.dual:
            return self._gram_matrix() @ u
        if self.kept and not self.dual:
            return self.forward(self.adjoint(u))
        return self._through(u, by_units=True)[1]

    def primal_product(self, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "p c"]:
        """Return AᵀA v for the features A (n, p), by a product with the Gram matrix AᵀA if it is kept.

        Otherwise it takes one pass over the features, or two if they are kept in tiles of hidden units.
        """
        if self.mode == "gram" and not self.dual:
            return self._gram_matrix() @ v
        if self.kept and self.dual:
            return self.adjoint(self.forward(v))
        return self._through(v, by_units=False)[1]

    def adjoint64(self, u: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "p c"]:
        """Return Aᵀ u for the features A (n, p), multiplied in float64, in one pass over them."""
        total, by_units = np.zeros((self.params, u.shape[1])), self.kept and self.dual
        for part, tile in self._widened(by_units):
            if by_units:
                total[part] = tile @ u
            else:
                total += tile.T @ u[part]
        return total

    def evaluate(self, v: Float[np.ndarray, "p c"]) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "p c"]]:
        """Return A v and Aᵀ(Y - A v), multiplied in float64, from the features A (n, p) in every mode.

        v (p, c) has k columns for each ridge, one ridge after the other. Costs one pass over the features, or two if
        they are kept in tiles of hidden units.
        """
        f, targets = np.zeros((self.rows, v.shape[1])), self.repeated_targets(v.shape[1])
        if self.kept and self.dual:
            for part, tile in self._widened(by_units=True):
                f += tile.T @ v[part]
            return f, self.adjoint64(targets - f)
        total = np.zeros((self.params, v.shape[1]))
        for part, tile in self._widened(by_units=False):
            f[part] = tile @ v
            total += tile.T @ (targets[part] - f[part])
        return f, total

    def predict(self, x: Float32[np.ndarray, "m d"], v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "m c"]:
        """Return the model's outputs relu(x W) a + c for other inputs x (m, d), computed in blocks of rows.

        Each column of `v` (p, c) contains the readout a of one output and, in its last row, the bias c. The result has
        one column for each of them.
        """
        predictions = np.empty((len(x), v.shape[1]))
        v = to_device(self.xp, v)
        for part in blocks(len(x), block_size(self.params, self.memory)):
            tile = self._row_tile(to_device(self.xp, x[part]))
            predictions[part] = to_host(self.xp, self.xp.matmul(tile, v))
        return predictions

    # Tiles, and the three passes over them.

    @property
    def _by_units(self) -> bool:
        """Whether `forward` and `adjoint` use tiles of hidden units instead of tiles of rows.

        Features that are kept in memory are used in the tiles in which they are stored. Recomputed features are used in
        tiles of hidden units, with which the matrix products are the largest.
        """
        return self.dual if self.kept else True

    def _tiles(self, by_units: bool) -> Iterator[tuple[slice, Any]]:
        """Yield the tiles of the features, from memory if features are kept there, otherwise computed now.

        Each tile is yielded with the slice of its hidden units or rows. `by_units` selects tiles of hidden units if
        tiles are computed now.
        """
        yield from self._computed_tiles(by_units) if self._stored is None else self._stored

    def _computed_tiles(self, by_units: bool) -> Iterator[tuple[slice, Any]]:
        """Compute the features tile by tile, and yield each tile with the slice of its units or rows.

        NumPy stores all tiles in the same array, so a tile is valid only until the next one is yielded.

        Args:
            by_units: Whether a tile has all rows of some hidden units, (b, n), with the bias in a last tile (1, n);
                otherwise it has all features of some rows, (b, N + 1).
        """
        short = self.rows if by_units else self.params
        parts = blocks(self.units if by_units else self.rows, block_size(short, self.memory))
        buffer = np.empty((parts[0].stop, short), np.float32) if self.xp is np else None
        for part in parts:
            yield part, self._tile(part, by_units, None if buffer is None else buffer[: part.stop - part.start])
        if by_units:
            yield slice(self.units, self.params), to_device(self.xp, np.ones((1, short)))

    def _widened(self, by_units: bool) -> Iterator[tuple[slice, Float64[np.ndarray, "b short"]]]:
        """Yield the tiles of the features as NumPy arrays in float64, in parts of at most WIDE rows of a tile.

        Each part is yielded with the slice of its units or rows. Recomputed features are always computed by the same
        block products, so that `adjoint64` and `evaluate` use exactly the same matrix.

        Args:
            by_units: Whether a tile has all rows of some hidden units; otherwise it has all features of some rows.
        """
        for part, tile in self._tiles(by_units):
            tile = to_host(self.xp, tile)
            for rows in cut(len(tile), WIDE):
                yield slice(part.start + rows.start, part.start + rows.stop), tile[rows].astype(np.float64)

    def _tile(self, part: slice, by_units: bool, out: np.ndarray | None) -> Any:
        """Compute one tile of the features.

        Args:
            part: Hidden units or rows of the tile.
            by_units: Whether `part` selects units, for a tile (b, n); otherwise it selects rows, for a tile (b, N + 1).
            out: Array in which NumPy stores the tile; None: a new one.
        """
        return self._unit_tile(part, out) if by_units else self._row_tile(self._x[part], out)

    def _unit_tile(self, part: slice, out: np.ndarray | None) -> Any:
        """Return relu(X W[:, part])ᵀ, (b, n), the features of the b hidden units `part` on all train rows X.

        With NumPy the result is stored in `out`.
        """
        if self.xp is np:
            return _relu_product(self._weights[:, part].T, self._x.T, out)
        return self.xp.transpose(relu(self.xp.matmul(self._x, self._weights[:, part]), self.xp))

    def _row_tile(self, x: Any, out: np.ndarray | None = None) -> Any:
        """Return [relu(x W), 1], (b, N + 1), all features of the inputs x (b, d).

        With NumPy the result is stored in `out`, or in a new array if `out` is None.
        """
        if self.xp is not np:
            features = relu(self.xp.matmul(x, self._weights), self.xp)
            return self.xp.concatenate([features, self.xp.ones((x.shape[0], 1), "float32")], axis=1)
        out = np.empty((len(x), self.params), np.float32) if out is None else out
        _relu_product(x, self._weights, out[:, :-1])
        out[:, -1] = 1
        return out

    @functools.cached_property
    def _stored(self) -> list[tuple[slice, Any]] | None:
        """The tiles of the features that are kept in memory, computed at the first use; None if features are not kept.

        In the dual (fewer rows than features) a tile has all rows of some hidden units. In the primal it has all
        features of some rows. With NumPy, tiles are small enough for the cache.
        """
        held = self.held.get(self.mode, 0)
        logging.info("features: %s, %d x %d, %.2f GB in memory", self.mode, self.n, self.units, held / 1e9)
        if not self.kept:
            return None
        if self.xp is not np:
            return list(self._computed_tiles(self.dual))
        short = self.rows if self.dual else self.params
        everything = np.empty((self.params if self.dual else self.rows, short), np.float32)
        for part in blocks(self.units if self.dual else self.rows, block_size(short, self.memory)):
            self._tile(part, self.dual, everything[part])
        if self.dual:
            everything[-1] = 1
        self._whole = everything
        tiles = blocks(len(everything), max(32, min(256, CACHE // short)))
        return [(part, everything[part]) for part in tiles]

    def _deep_tiles(self) -> Iterator[tuple[slice, Any]]:
        """Yield the tiles T whose products TᵀT add up to the Gram matrix.

        Kept features are yielded in blocks with enough rows for a fast matrix product.
        """
        if self._stored is None or self._whole is None:
            yield from self._tiles(self.dual)
        else:
            yield from ((part, self._whole[part]) for part in blocks(len(self._whole), DEEP))

    def _scatter(self, w: np.ndarray) -> np.ndarray:
        """Return the sum Σ Tᵀ w_T over all tiles T of the features, (short, c).

        A tile is an array (b, short), and w_T are the b rows of `w` (long, c) that belong to it. The module's docstring
        explains tiles and these sizes.
        """
        total, by_units = 0.0, self._by_units
        w = np.asarray(w, np.float32)
        for part, tile in self._tiles(by_units):
            total += self._times(w[part].T, tile).astype(np.float64)
        return total.T

    def _gather(self, u: np.ndarray, by_units: bool | None = None) -> np.ndarray:
        """Return the products T u of all tiles T (b, short) of the features, one below the other, (long, c).

        The module's docstring explains tiles and these sizes.

        Args:
            u: Columns to multiply, (short, c).
            by_units: Whether a tile has all rows of some hidden units; None: as in `forward` and `adjoint`.
        """
        u = to_device(self.xp, u)
        by_units = self._by_units if by_units is None else by_units
        gathered = np.empty((self.params if by_units else self.rows, u.shape[1]))
        for part, tile in self._tiles(by_units):
            gathered[part] = to_host(self.xp, self.xp.matmul(tile, u))
        return gathered

    def _through(self, u: np.ndarray, *, by_units: bool):
        """Return the products T u of all tiles T of the features, one below the other, and the sum Σ Tᵀ(T u).

        Both are computed in one pass. The module's docstring explains tiles and the sizes below.

        Args:
            u: Columns to multiply, (short, c), for tiles (b, short).
            by_units: Whether a tile has all rows of some hidden units; otherwise it has all features of some rows.
        """
        u = to_device(self.xp, u)
        gathered = np.empty((self.params if by_units else self.rows, u.shape[1]))
        total = np.zeros((u.shape[1], self.rows if by_units else self.params))
        for part, tile in self._tiles(by_units):
            gathered[part] = to_host(self.xp, self.xp.matmul(tile, u))
            total += self._times(gathered[part].T, tile)
        return gathered, total.T

    def _times(self, left: np.ndarray, tile: Any) -> np.ndarray:
        """Return the product left @ tile as a NumPy array, computed on the device of the tile.

        The caller transposes the small array `left`, so that the large tile need not be transposed and copied.
        """
        return to_host(self.xp, self.xp.matmul(to_device(self.xp, left), tile))

    def formed(self, moment: Float64[np.ndarray, "p columns"] | None) -> list[GramProblem]:
        """Return a list of one `GramProblem`: the ridge problem with the smaller of A Aᵀ and AᵀA, in float32.

        It is for solvers that factor a matrix, see `LeastSquares.formed`. This object keeps the matrix only in the mode
        "gram".

        Args:
            moment: AᵀY; None in the dual, which does not need it.
        """
        gram = self._gram_matrix().astype(np.float32)
        if self.mode != "gram":
            self._gram = None
        finite(gram.diagonal())
        return [GramProblem(gram, self.targets if self.dual else moment, memory=self.memory, overwrite=True)]

    def _gram_matrix(self) -> Float64[np.ndarray, "side side"]:
        """Return the smaller of the Gram matrices A Aᵀ and AᵀA of the features A, formed once.

        Products of tiles are computed in float32 and summed in float64.
        """
        if self._gram is None:
            gram = np.zeros((min(self.rows, self.params),) * 2)
            for _, tile in self._deep_tiles():
                gram += to_host(self.xp, self.xp.matmul(self.xp.transpose(tile), tile))
            self._gram = gram
        return self._gram


def _relu_product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Compute relu(left right) in `out`, and return it.

    The product is computed in chunks of columns, so that it is still in the cache when the ReLU is applied.
    """
    for chunk in blocks(right.shape[1], 4096):
        np.matmul(left, right[:, chunk], out=out[:, chunk])
        np.maximum(out[:, chunk], 0, out=out[:, chunk])
    return out
