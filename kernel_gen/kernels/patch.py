"""PATCH: Gaussian kernels between whitened patches of two images, pooled over cells of positions.

Patches x_p of an image X and z_q of an image Z are taken at positions p and q. The positions are grouped into the cells
of a grid. k(X, Z) is the mean of exp(-‖x_p - z_q‖²/(2L²)) over all pairs p, q in a cell, averaged over the cells, with
the bandwidth L. It is one layer of a convolutional kernel network (Mairal et al. 2014): a convolution with infinitely
many filters, a nonlinearity and average pooling.

First, unless the setting `patch_whitening` is 0, the mean of each patch is subtracted, the patch is divided by its
contrast √(v + C), and it is whitened by the covariance of the train patches. Here v is the variance of the entries of
the patch and C a tenth of the mean of v over train patches. Kernels of patches need whitening for a low test error
(Coates & Ng 2011; Thiry et al., ICLR 2021; Shankar et al., ICML 2020), because the directions in which natural patches
vary most carry little information.

A recursive feature machine with this kernel learns a metric on patches, from the average outer product of the gradients
with respect to single patches (Beaglehole et al., arXiv 2309.00570). The metric is applied after the whitening.
"""

import copy
import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from kernel_gen.kernel import OneKernel
from kernel_gen.kernels.differentiable import DifferentiableKernel
from kernel_gen.kernels.radial import median_distance
from kernel_gen.rows import finite_rows
from linearized.base.errors import UserError
from linearized.base.shapes import Float, Float64
from linearized.settings.gram_settings import KernelSettings
from linearized.settings.reads import ALWAYS, reads

if TYPE_CHECKING:
    from linearized.settings.gram_settings import RowSettings

READS = reads("bandwidth", "patch_size", "patch_stride", "patch_cells", "patch_whitening")
TRACE_GRID = True  # ridges scale with the trace of the Gram matrix, because none are published for this kernel
GRADIENTS = ALWAYS

CONTRAST = 0.1  # share of the mean variance of train patches that is added to a patch's variance before division
SHARE = 0.5  # default bandwidth, as a share of the median distance between train patches
IMAGES, DRAWN = 1000, 50_000  # largest number of train images, and of patches of them, for the covariance
PAIRS = 2**21  # largest number of pairs of patches whose kernel is in memory at once when gradients are computed


@dataclasses.dataclass(frozen=True)
class Patches:
    """Patches of n images, divided by the bandwidth of the kernel and grouped by the cells of the pooling grid.

    Attributes:
        cells: One array (n, positions, d) for each cell: d numbers for each patch.
        halves: One array (n, positions) for each cell: half of ‖x‖² of each patch.
    """

    cells: list[Float[np.ndarray, "n _ d"]]
    halves: list[Float[np.ndarray, "n _"]]

    def __len__(self) -> int:
        return len(self.cells[0])

    def __getitem__(self, part: slice) -> "Patches":
        return Patches([cell[part] for cell in self.cells], [half[part] for half in self.halves])


def check_rows(settings: "RowSettings", image_shape: tuple[int, ...] | None) -> None:
    """Raise `UserError` for rows that are not images, and for images with fewer patches than cells along an axis.

    Args:
        settings: Settings of the kernel and of the rows.
        image_shape: (height, width, channels) of the rows, or None if they are not images.
    """
    if image_shape is None:
        raise UserError(
            f"PATCH needs images (height, width, channels), and the rows of {settings.data_name()} are not images. "
            "Take a dataset of images, or GAUSSIAN."
        )
    _positions(settings, image_shape)


def _positions(settings: KernelSettings, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the numbers of patches along height and width of images of `image_shape`.

    The patches have the side and step of `settings`. Raises `UserError` if there are fewer patches than cells along
    an axis.
    """
    size, stride, cells = settings.patch_size, settings.patch_stride, settings.patch_cells
    found = tuple((side - size) // stride + 1 if side >= size else 0 for side in image_shape[:2])
    if min(found) < cells:
        raise UserError(
            f"Images of {image_shape[0]}x{image_shape[1]} have {found[0]}x{found[1]} patches of {size}x{size} at steps "
            f"of {stride}, fewer than {cells}x{cells} cells. Lower --patch_size, --patch_stride or --patch_cells."
        )
    return found


class PatchKernel(DifferentiableKernel):
    """A kernel of images: the mean Gaussian kernel between their patches in the same cell, averaged over cells.

    A cell is a part of the image, with p positions of patches, and a patch has d numbers. A pair of images costs 2 d
    Σ p² operations and Σ p² exponentials, where the sums are over cells. With the default settings and 32x32x3 images
    this takes about 40 μs on one core; a CNTK takes 1.3 ms. A prepared image takes 4 d Σ p bytes in float32.

    Args:
        image_shape: (height, width, channels).
        size: Side of the patches in pixels.
        stride: Step from one patch to the next in pixels.
        cells: Number of cells along each side of the pooling grid.
        whitening: Number that is added to the eigenvalues of the patches' covariance, relative to their mean, before
            its inverse root is computed; 0: patches are used as they are.
        bandwidth: L, in units of the whitened patches; 0: half the median distance between train patches, see `on`.
        dtype: Data type of the entries, "float32" or "float64".
    """

    tile = 32
    scale = "input"
    positive = True
    gradient_rows = 16

    def __init__(
        self, image_shape: tuple[int, int, int], *, size: int = 5, stride: int = 2, cells: int = 2,
        whitening: float = 0.1, bandwidth: float = 0.0, dtype: str = "float32",
    ):  # fmt: skip
        self.image_shape, self.size, self.stride, self.cells = tuple(image_shape), size, stride, cells
        self.whitening, self.bandwidth, self.dtype = whitening, bandwidth, np.dtype(dtype)
        self.contrast = self.mean = self.matrix = None  # set by `settled` from the train rows

    @property
    def metric_shape(self) -> tuple[int, ...]:
        """The shape of a patch, (size, size, channels)."""
        return (self.size, self.size, self.image_shape[2])

    def settled(self: OneKernel, train: np.ndarray) -> OneKernel:
        """Return the kernel with the constant of the contrast and the whitening matrix, computed from train rows.

        They are computed from up to 50,000 patches of up to 1,000 train images, chosen at random with a fixed seed. A
        kernel that has these parameters already is returned unchanged.

        Args:
            train: Train images (n, height · width · channels).

        Raises `UserError` if all patches are constant.
        """
        if self.contrast is not None:
            return self
        found, patches = copy.copy(self), self._cut(self._some(train))
        flat = patches.reshape(-1, patches.shape[-1])
        chosen = np.random.RandomState(0).permutation(len(flat))[:DRAWN]
        drawn = flat[chosen].astype(np.float64)
        drawn -= drawn.mean(axis=1, keepdims=True)
        variances = np.square(drawn).mean(axis=1)
        if not variances.any():
            raise UserError("All patches of the train images are constant: nothing differs between them.")
        found.contrast = CONTRAST * variances.mean() if self.whitening else 0.0
        if self.whitening:
            drawn /= np.sqrt(variances + found.contrast)[:, None]
            found.mean = drawn.mean(axis=0)
            values, vectors = np.linalg.eigh((drawn - found.mean).T @ (drawn - found.mean) / len(drawn))
            roots = np.sqrt(np.maximum(values, 0) + self.whitening * values.mean())
            found.matrix = (vectors / roots) @ vectors.T
        return found

    def on(self: OneKernel, train: np.ndarray) -> OneKernel:
        """Return the kernel with all parameters set from the train rows: contrast, whitening and bandwidth.

        A bandwidth of 0 is replaced by half the median distance between up to 1,000 patches, chosen at random with a
        fixed seed.

        Args:
            train: Train images (n, height · width · channels), or their patches (n, rows, columns, d) as `stretch`
                returns them, which determine only the bandwidth.

        Raises `UserError` if all patches are constant, or if the median distance between patches, which the bandwidth
        needs, is 0.
        """
        found = copy.copy(self if train.ndim == 4 else self.settled(train))
        if not self.bandwidth:
            patches = train if train.ndim == 4 else found.whitened(self._some(train))
            patches = patches.reshape(-1, patches.shape[-1])
            drawn = patches[np.random.RandomState(1).permutation(len(patches))[:1000]]
            found.bandwidth = SHARE * median_distance(drawn)
        return found

    def stretch(self, x: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Return the whitened patches of images, multiplied by the square root of a metric, (n, rows, columns, d).

        Args:
            x: Images (n, height · width · channels).
            root: Square root of the metric on patches, (d, d), or of its diagonal, (d,).
        """
        patches, root = self.whitened(x), root.astype(self.dtype)
        return patches * root if root.ndim == 1 else patches @ root

    def whitened(self, x: np.ndarray) -> Float[np.ndarray, "n h w d"]:
        """Return the patches of images, centred, divided by their contrast and whitened, (n, rows, columns, d).

        `rows` and `columns` count the positions of patches, and d is the number of entries of a patch. If `whitening`
        is 0, the patches are returned as they are.

        Args:
            x: Images (n, height · width · channels).

        Raises `ValueError` unless `settled` was called before.
        """
        if self.contrast is None:
            raise ValueError("The whitening is set by the train rows: call `settled` first.")
        patches = self._cut(x)
        if not self.whitening:
            return patches
        patches -= patches.mean(axis=-1, keepdims=True)
        patches /= np.sqrt(np.square(patches).mean(axis=-1, keepdims=True) + self.dtype.type(self.contrast))
        patches -= self.mean.astype(self.dtype)
        return patches @ self.matrix.astype(self.dtype)

    def prepare(self, x: np.ndarray) -> Patches:
        """Return the patches of images, grouped by cells and divided by the bandwidth, for `block`.

        Args:
            x: Images (n, height · width · channels), or patches (n, rows, columns, d) as `stretch` returns them.

        Raises `ValueError` unless the bandwidth was given or set by `on`.
        """
        if not self.bandwidth:
            raise ValueError("The bandwidth is set by the train rows: call `on` first.")
        patches = (x if x.ndim == 4 else self.whitened(x)) / self.dtype.type(self.bandwidth)
        down, across = (np.arange(self.cells + 1) * side // self.cells for side in patches.shape[1:3])
        cells = [patches[:, top:bottom, left:right].reshape(len(x), -1, patches.shape[-1])
                 for top, bottom in itertools.pairwise(down)
                 for left, right in itertools.pairwise(across)]  # fmt: skip
        return Patches(cells, [np.square(cell).sum(axis=-1) / 2 for cell in cells])

    def block(self, one: Patches, two: Patches, *, same: bool = False) -> Float[np.ndarray, "n1 n2"]:
        """Return the kernel (n1, n2) between two sets of images, which `prepare` returned.

        Args:
            one: The n1 images of the rows.
            two: The n2 images of the columns.
            same: Whether `two` contains the images of `one`; not used.
        """
        total = np.zeros((len(one), len(two)))
        for place, (cell, other) in enumerate(zip(one.cells, two.cells, strict=True)):
            entries = _kernel(cell, one.halves[place], other, two.halves[place])
            shape = len(one), cell.shape[1], len(two), other.shape[1]
            total += entries.reshape(shape).sum(axis=3).sum(axis=1) / (shape[1] * shape[3])
        return (total / len(one.cells)).astype(self.dtype)

    def gradients(
        self, points: Patches, rows: Patches, alpha: Float64[np.ndarray, "n k"]
    ) -> Float64[np.ndarray, "k m d"]:
        """Return the gradients of f_c(x) = Σ_i alpha_ic k(x, x_i) in each patch of images x, (k, m, d) in float64.

        Here m is the number of patches of all images x; the patches are ordered by cell. The gradient of
        exp(-‖x - z‖²/(2L²)) in x is its value times (z - x)/L². Each pair of patches in one cell costs 2d operations,
        and another 2d for each output, in the dtype of the entries. Memory is needed for the result and for 8 MiB of
        entries at a time.

        Args:
            points: The images x, as `prepare` returned them.
            rows: The n images x_i, as `prepare` returned them.
            alpha: Coefficients (n, k), one column for each output c.
        """
        found, k = [], alpha.shape[1]
        for place, (cell, other) in enumerate(zip(points.cells, rows.cells, strict=True)):
            patches, d = cell.reshape(-1, cell.shape[-1]), cell.shape[-1]
            step = max(1, PAIRS // (len(patches) * other.shape[1]))
            sums = np.zeros((len(patches), k * (d + 1)))
            for start in range(0, len(other), step):
                part = slice(start, start + step)
                entries = _kernel(cell, points.halves[place], other[part], rows.halves[place][part])
                weights = np.repeat(alpha[part], other.shape[1], axis=0).astype(self.dtype)  # (patches, k)
                values = other[part].reshape(-1, d)
                sums += entries @ np.concatenate([weights[:, c, None] * values for c in range(k)] + [weights], axis=1)
            towards, total = sums[:, : k * d].reshape(-1, k, d), sums[:, k * d :, None]
            scale = 1 / (len(points.cells) * cell.shape[1] * other.shape[1] * self.bandwidth)
            found.append(scale * (towards - total * patches[:, None]).transpose(1, 0, 2))
        return np.concatenate(found, axis=1)

    def _some(self, train: np.ndarray) -> np.ndarray:
        return train[np.random.RandomState(0).permutation(len(train))[:IMAGES]]

    def _cut(self, x: np.ndarray) -> Float[np.ndarray, "n h w d"]:
        """Return the patches of images, before any whitening, as a new array (n, rows, columns, d).

        `rows` and `columns` count the positions of patches. A patch lists its pixels, each with its channels.
        """
        images = finite_rows(x, self.dtype)
        if images.shape[1] != math.prod(self.image_shape):
            raise UserError(f"Images of shape {self.image_shape} are expected. Received: rows of {images.shape[1]}.")
        images = images.reshape(-1, *self.image_shape)
        windows = np.lib.stride_tricks.sliding_window_view(images, (self.size, self.size), axis=(1, 2))
        windows = windows[:, :: self.stride, :: self.stride].transpose(0, 1, 2, 4, 5, 3)
        return windows.reshape(*windows.shape[:3], -1)


def _kernel(one: np.ndarray, half: np.ndarray, two: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "m1 m2"]:
    """Return the kernel exp(-‖x - z‖²/2) between all patches x and z of two sets of images, (n1 · p, n2 · p).

    Args:
        one: Patches (n1, p, d) of one cell of the pooling grid, with p positions.
        half: ‖x‖²/2 of the patches of `one`, (n1, p).
        two: Patches (n2, p, d) of the same cell.
        other: ‖z‖²/2 of the patches of `two`, (n2, p).
    """
    entries = one.reshape(-1, one.shape[-1]) @ two.reshape(-1, two.shape[-1]).T
    entries -= half.reshape(-1, 1)
    entries -= other.reshape(1, -1)
    np.minimum(entries, 0, out=entries)  # rounding can make the squared distance of equal patches negative
    return np.exp(entries, out=entries)


def build(settings: KernelSettings, image_shape: tuple[int, ...] | None) -> PatchKernel:
    """Return the kernel between patches of images with the sizes, whitening and bandwidth of the settings.

    Args:
        settings: Settings of the kernel.
        image_shape: (height, width, channels); None for rows that are not images.

    Raises `UserError` if there are no images, or fewer patches than cells.
    """
    if image_shape is None or len(image_shape) != 3 or min(image_shape) < 1:
        raise UserError(
            f"PATCH needs images (height, width, channels). Received: {image_shape}. Take a dataset of images, or "
            "GAUSSIAN."
        )
    image_shape = tuple(int(size) for size in image_shape)
    _positions(settings, image_shape)
    return PatchKernel(
        image_shape, size=settings.patch_size, stride=settings.patch_stride, cells=settings.patch_cells,
        whitening=settings.patch_whitening, bandwidth=settings.bandwidth, dtype=settings.dtype,
    )  # fmt: skip
