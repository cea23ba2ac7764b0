"""The convolutional neural tangent kernel (CNTK) of many pairs of images, computed on this machine's cores.

A network is computed stage by stage, with the programs of `recursion_numba`.

A stage is a group of layers on images of one size. K is the covariance between pixels of two images (NNGP), Θ the
tangent kernel (NTK) and T = K + Θ. The arrays of K and T that a stage passes to the next one are called maps. Their
axis `kinds` has one entry for K, and one for T if the NTK is computed.
"""

import math
import threading
from collections.abc import Sequence

import numpy as np

from kernel_gen.cntk.architecture import Stage
from kernel_gen.cntk.recursion_numba import fits, stage_kernel
from linearized.base.blocks import for_each


def row_slots(rows: int, reach: int) -> int:
    """Return the number of rows y' of the second image whose covariances are stored for each row y of the first image.

    These are 2 `reach` + 1 consecutive rows around y. Near the edges of the image they are shifted so that they lie
    inside it. If the image has fewer rows, these are all rows.

    Args:
        rows: Height of the images.
        reach: Largest vertical offset `|y' - y|` that is needed.
    """
    return min(rows, 2 * reach + 1)


class Engine:
    """The CNTK of one network before its readout, for pairs of prepared images, on this machine's cores.

    It computes the covariance K between the pixels of two images (NNGP) and T = K + Θ with the tangent kernel Θ (NTK),
    stage by stage.

    Args:
        stages: Stages of the network.
        channels: Number of image channels.
        ntk: Whether T is computed in addition to K.
        q: Weight variance of the convolutions, divided by 9.
        beta: Variance b² of the convolutions' biases, divided by `q`.
        dtype: Data type of the computation, "float32" or "float64".
        make: Function that compiles a stage, with the arguments of `recursion_numba.stage_kernel`.
    """

    def __init__(
        self, stages: Sequence[Stage], channels: int, *, ntk: bool, q: float, beta: float, dtype: str, make=stage_kernel
    ):
        self.stages, self.ntk, self.dtype = tuple(stages), ntk, np.dtype(dtype)
        self.q, self.beta = self.dtype.type(q), self.dtype.type(beta)
        self.fits = fits(dtype)
        self.shapes, self.programs, slots, pooled = [], [], 0, 1
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            high, wide = stage.height // stage.pool[0], stage.width // stage.pool[1]
            kept = row_slots(high, following.reach[0] if following else 0)
            first = channels if stage is stages[0] else 0
            program = make(stage, channels=first, pooled=pooled, slots=(slots, kept), ntk=ntk, dtype=dtype)
            self.programs.append(program)
            self.shapes.append((1 + ntk, high, kept, wide, stage.width))
            slots, pooled = kept, stage.pool[1]

    @property
    def map_bytes(self) -> int:
        """The size in bytes of the covariances that stages pass to each other for one pair of images."""
        return sum(math.prod(shape) for shape in self.shapes) * self.dtype.itemsize

    def workspace(self, pairs: int) -> list[np.ndarray]:
        """Return arrays of zeros in which the stages store the covariances of `pairs` pairs of images.

        The list has one array per stage. Before them there is a placeholder, because the first stage reads images.
        """
        return [np.zeros((1,) * 6, self.dtype), *(np.zeros((pairs, *shape), self.dtype) for shape in self.shapes)]

    def heads(self, one, two, left, right, twin, maps: list[np.ndarray]) -> np.ndarray:
        """Return the kernels of some pairs of images before the readout, float64 (pairs, kinds).

        The last axis has the covariance K (NNGP) and, if the tangent kernel Θ (NTK) is computed, T = K + Θ.

        Args:
            one: The first images, prepared (`diagonal.Prepared`).
            two: The second images, prepared.
            left: Index in `one` of each pair's first image.
            right: Index in `two` of each pair's second image.
            twin: For each pair, whether both images are the same.
            maps: Arrays that `workspace` returned for as many pairs or more; they are overwritten.
        """
        count, scale = len(left), self.dtype.type(1)
        for index, (stage, program) in enumerate(zip(self.stages, self.programs, strict=True)):
            maps[index + 1][:count] = 0
            program(
                one.pixels, two.pixels, one.stds[index], two.stds[index], left, right, twin,
                self.q, self.beta, self.fits, maps[index], scale, maps[index + 1],
            )  # fmt: skip
            scale = self.dtype.type(1 / math.prod(stage.pool) ** 2)
        return head_means(maps[-1][:count], self.stages[-1])

    def block(self, one, two, same: bool) -> np.ndarray:
        """Return the kernels of all pairs of two sets of images before the readout, float64 (n1, n2, kinds).

        The last axis has the covariance K (NNGP) and, if the tangent kernel Θ (NTK) is computed, T = K + Θ.

        Args:
            one: The first images, prepared (`diagonal.Prepared`).
            two: The second images, prepared.
            same: Whether both sets are the same; one triangle is then computed and mirrored.
        """
        left, right = pairs_of(len(one), len(two), same)
        twin = (left == right) & same
        out = np.empty((len(one), len(two), 1 + self.ntk))
        chunk = max(1, min(16, 2**22 // self.map_bytes))
        local = threading.local()

        def work(start: int) -> None:
            if not hasattr(local, "maps"):
                local.maps = self.workspace(chunk)
            part = slice(start, start + chunk)
            heads = self.heads(one, two, left[part], right[part], twin[part], local.maps)
            out[left[part], right[part]] = heads
            if same:
                out[right[part], left[part]] = heads

        for_each(range(0, len(left), chunk), work)
        return out


def pairs_of(rows: int, columns: int, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and column indices of the pairs in a block of the kernel matrix, row by row, two arrays (pairs,).

    Args:
        rows: Number of rows of the block.
        columns: Number of its columns.
        same: Whether to return only the pairs of the upper triangle.
    """
    return np.triu_indices(rows) if same else tuple(np.indices((rows, columns)).reshape(2, -1))


def head_means(maps: np.ndarray, stage: Stage) -> np.ndarray:
    """Return the means of the last stage's covariances over equal pixels i = i' of both images, float64 (pairs, kinds).

    The means are the kernels before the readout.

    Args:
        maps: Covariances (pairs, kinds, y, 1, x, x' not yet pooled) that the last stage stored.
        stage: The last stage.
    """
    pairs, kinds, high, _, wide, _ = maps.shape
    blocks = maps.reshape(pairs, kinds, high, wide, wide, stage.pool[1])
    diagonal = np.einsum("pkyxxw->pk", blocks, dtype=np.float64)
    return diagonal / (high * wide * math.prod(stage.pool) ** 2)
