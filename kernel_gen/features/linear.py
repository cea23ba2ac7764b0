"""Linear layers on features of kernels of infinitely wide networks: dense, convolution, pooling, flattening.

Σ is the covariance of a layer's outputs at initialisation (NNGP) and Θ the tangent kernel (NTK); w and b are the
standard deviations of weights and biases. Features of either one are arrays (rows, columns) or (rows, images, height,
width).

Apart from constants, a convolution maps Σ to its mean over the window. The features of this mean are the concatenated
features of the window's pixels, divided by √(number of pixels): 9 times as many rows for a 3 x 3 window. If there are
more rows than the limit, they are folded: each row of each pixel is added, with a random sign, to a random row of the
result. Rows of one pixel are added to different rows of the result as far as possible. Folding is unbiased, because
products of different rows have mean 0 over the signs. Its variance is that of a sketch with as many rows. Without
folding all these layers are exact.

Conventions are those of neural_tangents.stax, and padding is as in XLA: SAME results in ⌈size/stride⌉ pixels, and if
the number of zeros is odd, the additional zero is at the end.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import no_type_check

import numba
import numpy as np

from kernel_gen.features.state import FeatureState, Shape, squares_of
from linearized.base.errors import UserError
from linearized.base.shapes import Float

PADDINGS = ("SAME", "VALID")
Step = Callable[[FeatureState], FeatureState]


@dataclasses.dataclass(frozen=True)
class DenseStep:
    """A dense layer on features of the kernels Σ (NNGP) and Θ (NTK): Σ ← w²Σ + b², then Θ ← w²Θ + Σ with the new Σ.

    Attributes:
        weight_std: w, the standard deviation of the weights.
        bias_std: b, the standard deviation of the biases.
    """

    weight_std: float = 1.0
    bias_std: float = 0.0

    def plan(self, shape: Shape, limit: float | int, random: np.random.RandomState) -> tuple[Step, Shape]:
        """Return the function that applies the layer to the features of a batch, and the shape of its result.

        Args:
            shape: Shape of the layer's inputs.
            limit: Largest number of rows of the features of Σ (NNGP), and of those of Θ (NTK); this layer does not use
                it.
            random: Generator of random signs; this layer does not use it.
        """
        square, bias = self.weight_std**2 * shape.square + self.bias_std**2, int(self.bias_std > 0)
        tangent = self.weight_std**2 * shape.tangent + square
        nngp = shape.nngp + bias
        planned = dataclasses.replace(
            shape, nngp=nngp, ntk=shape.ntk + nngp, square=square, tangent=tangent, twins=not shape.ntk
        )
        return self._apply, planned

    def _apply(self, state: FeatureState) -> FeatureState:
        weight = state.nngp.dtype.type(self.weight_std)
        nngp = weight * state.nngp
        if self.bias_std > 0:
            nngp = np.concatenate([nngp, np.full((1, *nngp.shape[1:]), self.bias_std, nngp.dtype)])
        ntk = np.concatenate([weight * state.ntk, nngp])
        return FeatureState(nngp, ntk, self.weight_std**2 * state.square + self.bias_std**2)


@dataclasses.dataclass(frozen=True)
class Window:
    """The window of a convolution or pool, which moves over an image in steps.

    Attributes:
        size: Height and width in pixels.
        strides: Steps down and across in pixels.
        padding: "SAME" (with zeros outside of the image) or "VALID" (inside of the image), as in XLA.

    Raises `UserError` for sizes or strides below 1, and for any other padding.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str

    def __post_init__(self):
        if min(self.size) < 1 or min(self.strides) < 1 or self.padding not in PADDINGS:
            raise UserError(
                f"A window has a size and strides of at least 1, and padding {' or '.join(PADDINGS)}. Received: "
                f"{self.size}, {self.strides}, {self.padding}."
            )

    def over(self, image: tuple[int, int]) -> tuple[tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
        """Return the size of an image after a convolution or pool with this window, and the padding before it.

        Args:
            image: Height and width of the image.

        Returns: Height and width of the result, and for each axis the numbers of zeros before and after the pixels.

        Raises `UserError` if the window does not fit in the image.
        """
        sizes, pads = [], []
        for length, window, stride in zip(image, self.size, self.strides, strict=True):
            if self.padding == "SAME":
                count = math.ceil(length / stride)
                missing = max((count - 1) * stride + window - length, 0)
            else:
                count, missing = (length - window) // stride + 1, 0
            if count < 1:
                raise UserError(f"A window of {self.size} with VALID padding does not fit images of {image}.")
            sizes.append(count)
            pads.append((missing // 2, missing - missing // 2))
        return (sizes[0], sizes[1]), (pads[0], pads[1])

    def shifted(self, array: np.ndarray, size: tuple[int, int], pads: tuple) -> list[np.ndarray]:
        """Return one shifted view of the images for each position in the window.

        A view (..., height, width) contains, for each pixel of the result, the pixel of the image at this position of
        the window.

        Args:
            array: Images (..., height, width).
            size: Height and width of the result, from `over`.
            pads: Numbers of zeros to add, from `over`.
        """
        padded = np.pad(array, [(0, 0)] * (array.ndim - 2) + list(pads)) if np.any(pads) else array
        (high, wide), (down, across) = size, self.strides
        return [
            padded[..., y : y + (high - 1) * down + 1 : down, x : x + (wide - 1) * across + 1 : across]
            for y in range(self.size[0]) for x in range(self.size[1])
        ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ConvStep:
    """A convolution with infinitely many channels on features of the kernels Σ (NNGP) and Θ (NTK).

    Σ ← w² · mean of Σ over the window + b², then Θ ← w² · mean of Θ over the window + Σ with the new Σ. Pixels outside
    of the image count as zeros.

    Attributes:
        size: Height and width of the window.
        strides: Steps down and across.
        padding: "SAME" or "VALID".
        weight_std: w, the standard deviation of the weights.
        bias_std: b, the standard deviation of the biases.
    """

    size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    weight_std: float = 1.0
    bias_std: float = 0.0

    def plan(self, shape: Shape, limit: float | int, random: np.random.RandomState) -> tuple[Step, Shape]:
        """Return the function that applies the convolution to the features of a batch, and the shape of its result.

        Args:
            shape: Shape of the layer's inputs.
            limit: Largest number of rows of the features of Σ (NNGP), and of those of Θ (NTK); if there are more, they
                are folded: replaced by sums with random signs.
            random: Generator of the signs and positions of folded rows.

        Raises `UserError` for inputs that are not images, and for a window that does not fit in them.
        """
        image = of_images(shape, "ConvStep")
        window = Window(self.size, self.strides, self.padding)
        size, pads = window.over(image)
        places, bias = math.prod(self.size), int(self.bias_std > 0)
        nngp = Fold(shape.nngp, places, bias, limit, random)
        ntk = Fold(shape.ntk, places, nngp.rows, limit, random)
        square = self.weight_std**2 * shape.square + self.bias_std**2
        planned = dataclasses.replace(
            shape, nngp=nngp.rows, ntk=ntk.rows, image=size, square=square,
            tangent=self.weight_std**2 * shape.tangent + square, twins=not shape.ntk and limit == math.inf,
        )  # fmt: skip
        scale = self.weight_std / math.sqrt(places)

        def step(state: FeatureState) -> FeatureState:
            ones = np.full((bias, len(state.square[:, 0, 0]), *size), self.bias_std, state.nngp.dtype)
            new = nngp(window.shifted(state.nngp, size, pads), scale, ones)
            tangent = ntk(window.shifted(state.ntk, size, pads), scale, new)
            variance = scale**2 * sum(window.shifted(state.square, size, pads)) + self.bias_std**2
            return FeatureState(new, tangent, variance)

        return step, planned


@dataclasses.dataclass(frozen=True)
class AvgPoolStep:
    """Average pooling of features over a window; pixels outside of the image count as zeros.

    Attributes:
        size: Height and width of the window.
        strides: Steps down and across; None: 1 and 1, as in stax.
        padding: "SAME" or "VALID".
    """

    size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] | None = None
    padding: str = "VALID"

    def plan(self, shape: Shape, limit: float | int, random: np.random.RandomState) -> tuple[Step, Shape]:
        """Return the function that pools the features of a batch, and the shape of its result.

        Args:
            shape: Shape of the layer's inputs.
            limit: Largest number of rows of features; this layer does not use it.
            random: Generator of random signs; this layer does not use it.

        Raises `UserError` for inputs that are not images, and for a window that does not fit in them.
        """
        image = of_images(shape, "AvgPoolStep")
        window = Window(self.size, self.strides or (1, 1), self.padding)
        size, pads = window.over(image)

        def pooled(features: np.ndarray) -> np.ndarray:
            total = np.zeros((*features.shape[:2], *size), features.dtype)
            for part in window.shifted(features, size, pads):
                total += part
            total *= 1 / math.prod(self.size)
            return total

        def step(state: FeatureState) -> FeatureState:
            nngp = pooled(state.nngp)
            return FeatureState(nngp, pooled(state.ntk), squares_of(nngp))

        return step, dataclasses.replace(shape, image=size)


@dataclasses.dataclass(frozen=True)
class GlobalAvgPoolStep:
    """Average pooling of features over all pixels of an image."""

    def plan(self, shape: Shape, limit: float | int, random: np.random.RandomState) -> tuple[Step, Shape]:
        """Return the function that pools the features of a batch, and the shape of its result, which has no image axes.

        Args:
            shape: Shape of the layer's inputs.
            limit: Largest number of rows of features; this layer does not use it.
            random: Generator of random signs; this layer does not use it.

        Raises `UserError` for inputs that are not images.
        """
        of_images(shape, "GlobalAvgPoolStep")

        def step(state: FeatureState) -> FeatureState:
            nngp = state.nngp.mean(axis=(2, 3))
            return FeatureState(nngp, state.ntk.mean(axis=(2, 3)), squares_of(nngp))

        return step, dataclasses.replace(shape, image=None)


@dataclasses.dataclass(frozen=True)
class FlattenStep:
    """Flattening before a dense layer with weights of its own for every pixel.

    It maps the kernels Σ (NNGP) and Θ (NTK) to the means over pixels i of Σ(i, i) and of Θ(i, i), where (i, i) stands
    for pixel i of one image and the same pixel of the other one.
    """

    def plan(self, shape: Shape, limit: float | int, random: np.random.RandomState) -> tuple[Step, Shape]:
        """Return the function that flattens the features of a batch, and the shape of its result.

        Vectors are returned unchanged.

        Args:
            shape: Shape of the layer's inputs.
            limit: Largest number of rows of the features of Σ (NNGP), and of those of Θ (NTK); if there are more, they
                are folded: replaced by sums with random signs.
            random: Generator of the signs and positions of folded rows.
        """
        if shape.image is None:
            return (lambda state: state), shape
        pixels = math.prod(shape.image)
        nngp, ntk = (Fold(rows, pixels, 0, limit, random) for rows in (shape.nngp, shape.ntk))
        scale = 1 / math.sqrt(pixels)

        def step(state: FeatureState) -> FeatureState:
            parts = [
                [features.reshape(*features.shape[:2], pixels)[:, :, pixel] for pixel in range(pixels)]
                for features in (state.nngp, state.ntk)
            ]
            empty = np.empty((0, len(state.square)), state.nngp.dtype)
            return FeatureState(
                nngp(parts[0], scale, empty), ntk(parts[1], scale, empty), state.square.mean(axis=(1, 2))
            )

        return step, dataclasses.replace(shape, nngp=nngp.rows, ntk=ntk.rows, image=None)


def of_images(shape: Shape, layer: str) -> tuple[int, int]:
    """Return the height and width of a layer's inputs, which must be images.

    Args:
        shape: Shape of the inputs.
        layer: Name of the layer in the message.

    Raises `UserError` for vectors.
    """
    if shape.image is None:
        raise UserError(f"{layer} takes images, and its inputs are vectors. Take a dataset of images.")
    return shape.image


class Fold:
    """A function that concatenates the features of several pixels and further rows into at most `limit` rows.

    If there are more rows, they are folded: each row is added, with a random sign, to a random one of the `limit` rows
    of the result.

    Args:
        rows: Number of rows of features of each pixel.
        places: Number of pixels.
        extra: Number of further rows.
        limit: Largest number of rows of the result.
        random: Generator of the signs and positions of folded rows.

    Attributes:
        rows: Rows of the result: their total if it is at most `limit`, else `limit`.
    """

    def __init__(self, rows: int, places: int, extra: int, limit: float | int, random: np.random.RandomState):
        total = rows * places + extra
        self.rows = total if total <= limit else int(limit)
        self._folds = []
        if total > limit:
            for count in [rows] * places + [extra]:
                signs = 2 * random.randint(0, 2, count) - 1
                folds = [random.permutation(self.rows) for _ in range(-(-count // self.rows))]
                self._folds.append((np.concatenate([*folds, []]).astype(np.int64)[:count], signs))

    def __call__(
        self, parts: list[Float[np.ndarray, "rows ..."]], scale: float, extra: Float[np.ndarray, "extra ..."]
    ) -> Float[np.ndarray, "out ..."]:
        """Return the concatenation of the scaled features of all pixels and of the further rows, or their folded sum.

        The result has `self.rows` rows, and the other axes of the features.

        Args:
            parts: Features of each pixel, `places` arrays (rows, ...).
            scale: Factor of these features.
            extra: Further rows, (extra, ...), which are not scaled.
        """
        scale = extra.dtype.type(scale)
        if not self._folds:
            return np.concatenate([*[scale * part for part in parts], extra])
        out = np.zeros((self.rows, *extra.shape[1:]), extra.dtype)
        for part, (places, signs) in zip([*parts, extra], self._folds, strict=True):
            factors = signs * (scale if part is not extra else 1)
            add_rows(part, places, factors.astype(out.dtype), out)
        return out


def add_rows(part: np.ndarray, places: np.ndarray, factors: np.ndarray, out: np.ndarray) -> None:
    """Add factors[i] · part[i] to out[places[i]] for each row i of `part`.

    Args:
        part: Rows (rows, columns) or (rows, images, height, width), which may be views of a larger array.
        places: Index in `out` for each row, (rows,).
        factors: Factor of each row, (rows,).
        out: Array to which the rows are added in place; its shape is that of `part`, except for the first axis.
    """
    flat = part[:, None, None, :] if part.ndim == 2 else part
    _add_rows(flat, places, factors, out.reshape(len(out), *flat.shape[1:]))


@numba.njit(nogil=True, fastmath=True, error_model="numpy")
@no_type_check  # Numba compiles the function itself, not a wrapper
def _add_rows(part, places, factors, out):
    for i in range(len(places)):
        place, factor = places[i], factors[i]
        for image in range(part.shape[1]):
            for y in range(part.shape[2]):
                for x in range(part.shape[3]):
                    out[place, image, y, x] += factor * part[i, image, y, x]
