"""RF: the kernel of a random-features model, which trains only the readout of ReLU features relu(xW).

The weights W (d, N) are random and fixed, so the tangent kernel (NTK) of the model equals its Gaussian-process kernel
(NNGP).

At infinite width N the kernel is ½ ‖x‖‖z‖ κ₁(c), divided by d at scale "stax", with c the correlation of x and z and
κ₁(c) = (√(1-c²) + c (π - arccos c))/π. At finite width, as in the experiments of Ghorbani et al. (2020), the matrix is

    K = 11ᵀ + relu(XW) relu(XW)ᵀ    for the rows X (n, d).

The ones represent the bias of the readout, K is not divided by N, and W has entries N(0, 1/d) by default. W is drawn
from a random-number seed, and products are summed over blocks of hidden units.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kernel_gen.kernel import Kernel
from kernel_gen.kernels.ntk import FullyConnected
from kernel_gen.rows import finite_rows, same_width
from linearized.base.shapes import Float, Float64
from linearized.base.weights import weight_blocks
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.memory import refuse_large_draws
from linearized.settings.reads import SET, reads, when

READS = (
    reads("num_units")
    | reads("law", "block", "weight_seed", when=when(num_units=SET))  # at infinite width no weights are drawn
    | reads("scale", when=when(num_units=0))
)
GRADIENTS = when(num_units=0)
ROTATION_INVARIANT = when(num_units=0)
CHUNK = 2048  # features that are summed in the dtype of the products before they are added in float64
SCRATCH = 2**30  # bytes for a product and the sum of products of a tile in memory, beside the matrix itself


class FiniteFeatures(Kernel):
    """The kernel of N random ReLU features relu(xW), N = `num_units`, and a constant feature of 1.

    The kernel between n1 and n2 rows of d columns costs 2(n1+n2)Nd + 2 n1 n2 N operations in BLAS, and N·d normal
    random numbers. If both sets of rows are the same, the features are computed only once. The random numbers are drawn
    again for every block of the kernel matrix, so large blocks are efficient: for blocks of 4,096 rows they take a few
    per cent of the time. A thread draws them while the products are computed. Products are computed for 2,048 features
    at a time, in the dtype of the entries, and summed in float64. The memory in bytes is 16 d · `block` for two draws
    of weights, 4 n1 n2 for a product in float32, 8 n1 n2 for the sum, and the size of 2,048 features of all rows.

    Args:
        num_units: Number of hidden units N.
        law: Distribution of W: "gaussian", entries N(0, 1/d), or "sphere", columns uniform on the unit sphere.
        block: Number of columns of W that are drawn at once; 0: all columns. The weights of a seed depend on it.
        seed: Random-number seed of W.
        dtype: Data type of the entries, "float32" or "float64".
    """

    tile = 4096
    scale = "stax"
    own_threads = True  # its products use all cores, and draws in several threads would multiply the memory

    def __init__(
        self, num_units: int, law: str = "gaussian", block: int = 50000, seed: int = 1990, dtype: str = "float32"
    ):
        self.num_units, self.law, self.draw, self.seed = num_units, law, block, seed
        self.dtype = np.dtype(dtype)

    def prepare(self, x: np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return the rows of `x` (n, d) in the kernel's dtype.

        Raises `UserError` for rows that are not finite, and if one draw of weights for them exceeds the memory.
        """
        rows = finite_rows(x, self.dtype)
        refuse_large_draws(rows.shape[1], self.num_units, self.draw, self.dtype.itemsize)
        return rows

    def block(
        self, one: Float[np.ndarray, "n1 d"], two: Float[np.ndarray, "n2 d"], *, same: bool = False
    ) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel (n1, n2) between two sets of rows, which `prepare` returned.

        Args:
            one: The n1 inputs of the rows, (n1, d).
            two: The n2 inputs of the columns, (n2, d).
            same: Whether `two` contains the inputs of `one`; the features are then computed once.

        Raises `UserError` if the two sets differ in their numbers of columns.
        """
        two = one if same else two
        same_width(one, two)
        total = np.ones((len(one), len(two)))
        product = np.empty(total.shape, self.dtype)
        features1 = np.empty((len(one), CHUNK), self.dtype)
        features2 = features1 if same else np.empty((len(two), CHUNK), self.dtype)
        for weights in _ahead(self._weights(one.shape[1])):
            for start in range(0, weights.shape[1], CHUNK):
                chunk = weights[:, start : start + CHUNK]
                left = _features(one, chunk, features1)
                right = left if same else _features(two, chunk, features2)
                total += np.matmul(left, right.T, out=product)
        del product  # its memory is that of the copy in float32
        return total.astype(self.dtype, copy=False)

    def side(self, rows: int) -> int:
        """Return the number of rows and columns of the square tiles (parts) in which a matrix in memory is computed.

        It is `rows` if such a tile fits in memory, otherwise `rows` is divided into the fewest equal parts that fit. A
        tile of side s takes (8 + b) s² bytes in addition to the matrix, for b bytes per entry. It fits if these bytes
        are at most `SCRATCH`, that is, up to s = 9,459 in float32 and 8,192 in float64. Features and weights are not
        counted. For each tile the weights are drawn again, and the features of its rows and columns are computed again.

        Args:
            rows: Number of rows or columns of the matrix, whichever is larger.
        """
        most = max(self.tile, math.isqrt(SCRATCH // (8 + self.dtype.itemsize)))
        parts = max(-(-rows // most), 1)
        return max(-(-rows // parts), 1)

    def diagonal(self, rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """Return k(x, x) of the rows x that `prepare` returned, (n,) in float64.

        The random weights are drawn once for all rows.
        """
        total, buffer = np.ones(len(rows)), np.empty((len(rows), CHUNK), self.dtype)
        for weights in _ahead(self._weights(rows.shape[1])):
            for start in range(0, weights.shape[1], CHUNK):
                total += np.square(_features(rows, weights[:, start : start + CHUNK], buffer)).sum(axis=1)
        return total

    def _weights(self, dim: int) -> Iterator[np.ndarray]:
        """Yield the weights W in blocks of columns, one for each random draw.

        They are arrays (dim, columns) in the kernel's dtype.
        """
        for weights in weight_blocks(dim, self.num_units, law=self.law, seed=self.seed, block=self.draw):
            yield weights.astype(self.dtype, copy=False)


def _features(x: np.ndarray, weights: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """Return the features relu(x W), (n, units), of rows `x` (n, d), with W = `weights` (d, units).

    They are stored in the first columns of `buffer`, which is overwritten.
    """
    out = np.matmul(x, weights, out=buffer[:, : weights.shape[1]])
    return np.maximum(out, 0, out=out)


def _ahead(items: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the items of an iterator; a thread computes the next item while the caller uses the present one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None = None) -> Kernel:
    """Return the kernel of finitely many features if `settings.num_units` is set, otherwise that of infinitely many.

    For infinitely many features, the setting `scale` = "published" stands for "input". `image_shape` is not used,
    because images are treated as rows.
    """
    if settings.num_units:
        return FiniteFeatures(settings.num_units, settings.law, settings.block, settings.weight_seed, settings.dtype)
    scale = "input" if settings.scale == "published" else settings.scale
    return FullyConnected(2, "nngp", dtype=settings.dtype, scale=scale)
