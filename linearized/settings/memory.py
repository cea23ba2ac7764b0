"""Lower bounds of the memory that random weights and features need, and refusals of settings that need too much.

The bounds are computed from settings alone. Refused settings cannot work on this machine; accepted ones may still need
too much memory. The bounds are compared with the memory of the machine when the work starts, not when settings are
read, because settings may be written on one machine for another.
"""

from typing import TYPE_CHECKING

import numpy as np

from linearized.base.errors import UserError
from linearized.base.machine_memory import total_bytes

if TYPE_CHECKING:
    from linearized.settings.embedding_settings import EmbeddedRows
    from linearized.settings.gram_settings import RowSettings

DOUBLE = 8  # bytes of a float64
DRAWN = 8  # bytes of a float64, the precision in which weights are drawn
BATCH = 256  # rows, or pixels of whole images, that are embedded together
DIRECTIONS = 128  # least number of principal directions of landmarks
EXACT = 4  # a layer's inputs are kept unchanged if they are at most this fraction (1 / EXACT) of its rows
MYRTLE_CONVS = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}  # number of convolutions in each group of a Myrtle network


def refuse_beyond_machine(needed: int, what: str, advice: str) -> None:
    """Raise `UserError` if the machine has less memory than is needed.

    Args:
        needed: Bytes that are needed.
        what: The flags that cause the need.
        advice: One sentence that says what to do instead.
    """
    have = total_bytes()
    if needed > have:
        raise UserError(
            f"{what} needs {needed / 2**30:,.0f} GiB of memory at least, and this machine has {have / 2**30:,.0f}. "
            f"{advice}"
        )


def draw_bytes(dim: int, units: int, block: int, itemsize: int) -> int:
    """Return the bytes of one block of random weights: in float64, plus a copy if the kernel's precision is lower.

    Args:
        dim: Number of rows of the matrix of weights.
        units: Number of columns of this matrix.
        block: Number of columns that are drawn at once; 0: all.
        itemsize: Bytes of one number in the kernel's precision.
    """
    return dim * min(block or units, units) * (DRAWN + (itemsize if itemsize < DRAWN else 0))


def refuse_large_draws(dim: int, units: int, block: int, itemsize: int) -> None:
    """Raise `UserError` if one block of the random weights of a finite RF kernel does not fit in memory.

    A finite RF kernel is computed from `units` random neurons. Their weights are drawn in blocks of columns.

    Args:
        dim: Number of rows of the matrix of weights.
        units: Number of columns of this matrix.
        block: Number of columns that are drawn at once; 0: all.
        itemsize: Bytes of one number in the kernel's precision.
    """
    advice = "Lower --num_units." if block >= units else "Lower --block, which changes the draw, or --num_units."
    if not block:
        advice = "Give a --block, such as 50000 as published, which changes the draw, or lower --num_units."
    needed = draw_bytes(dim, units, block, itemsize)
    refuse_beyond_machine(needed, f"The kernel RF with --num_units={units} --block={block}", advice)


def refuse_large_kernel(settings: "RowSettings") -> None:
    """Raise `UserError` if one block of the random weights of a finite RF kernel does not fit in memory.

    A finite RF kernel (`--num_units` above 0) is computed from random neurons. Other kernels have no random weights and
    are accepted.

    Args:
        settings: Settings of the kernel and of the rows.
    """
    if settings.kernel == "RF" and settings.num_units:
        itemsize = np.dtype(settings.dtype).itemsize
        refuse_large_draws(settings.dim(), settings.num_units, settings.block, itemsize)


def refuse_large_embedding(settings: "EmbeddedRows", image_shape: tuple[int, ...] | None, dim: int, train: int) -> None:
    """Raise `UserError` if an embedding's weights, or one batch of its features, do not fit in memory.

    Args:
        settings: The embedding's settings.
        image_shape: (height, width, channels) of the inputs, or None for vectors.
        dim: Length of an input.
        train: Number of train rows; 0 if it is not known yet.
    """
    width = f" --embedding_width={settings.embedding_width}" if settings.embedding_width else ""
    lower = "--embedding_dim or --embedding_width" if width else "--embedding_dim"
    refuse_beyond_machine(
        embedding_bytes(settings, image_shape, dim, train),
        f"--features={settings.features} with --embedding_dim={settings.embedding_dim}{width}", f"Lower {lower}.",
    )  # fmt: skip


def embedding_bytes(settings: "EmbeddedRows", image_shape: tuple[int, ...] | None, dim: int, train: int) -> int:
    """Return a lower bound of the bytes that the computation of random features needs.

    It is the larger of two numbers: the bytes of the largest matrix of weights while it is drawn, and those of all
    weights together with two copies of one batch of features. With `--method=landmarks` it is `landmark_bytes`.

    Args:
        settings: The embedding's settings.
        image_shape: (height, width, channels) of the inputs, or None for vectors.
        dim: Length of an input.
        train: Number of train rows; 0 if it is not known yet.
    """
    item = np.dtype(settings.dtype).itemsize
    if settings.method == "landmarks":
        return landmark_bytes(min(settings.embedding_dim, train), dim, item)
    pixels = image_shape[0] * image_shape[1] if settings.features == "CNTK" and image_shape else 1
    rows = min(max(1, BATCH // pixels), settings.num_train or BATCH)
    weights = [units * inputs for units, inputs in neurons(settings, image_shape, dim)]
    drawn = max(weights, default=0) * (DRAWN + (item if item < DRAWN else 0))  # the largest matrix, while it is drawn
    return max(drawn, item * sum(weights) + 2 * item * rows * fewest_features(settings, dim, train))


def landmark_bytes(count: int, dim: int, itemsize: int) -> int:
    """Return a lower bound of the bytes that features by landmarks need: the landmarks and the kernel between them.

    Landmarks are train rows; the features of a row are computed from its kernel with them.

    Args:
        count: Number of landmarks.
        dim: Length of a row.
        itemsize: Bytes of one number in the precision of the features; the kernel between landmarks is in float64.
    """
    return count * (DOUBLE * count + itemsize * dim)


def landmark_directions(count: int, dim: int) -> int:
    """Return the number of principal directions onto which rows are projected before products with landmarks.

    Landmarks are train rows from which features are computed. The more landmarks there are, the more directions are
    used, so that the error of the projection decreases together with the error of the features. If a projection would
    save nothing, `dim` is returned and rows are not projected.

    Args:
        count: Number of landmarks.
        dim: Length of a row.
    """
    directions = max(DIRECTIONS, count // 32)
    return directions if directions + 2 < dim else dim


def fewest_features(settings: "EmbeddedRows", dim: int, train: int) -> int:
    """Return a lower bound of the number of features of an embedding.

    The bound is `embedding_dim` - 1. Some features may be exact with one feature per entry of an input, such as those
    of a polynomial kernel of degree 1; for these it is the minimum of `embedding_dim` and `dim`. With
    `--method=landmarks` it is the minimum of `embedding_dim` and `train`.

    Args:
        settings: The embedding's settings.
        dim: Length of an input.
        train: Number of train rows; 0 if it is not known yet.
    """
    if settings.method == "landmarks":
        return min(settings.embedding_dim, train)
    exact = settings.degree == 1 if settings.features == "POLYNOMIAL" else settings.terms < 2
    few = exact and (settings.features == "POLYNOMIAL" or settings.method == "sketch")
    return min(settings.embedding_dim, dim) if few else settings.embedding_dim - 1


def neurons(settings: "EmbeddedRows", image_shape: tuple[int, ...] | None, dim: int) -> list[tuple[int, int]]:
    """Return a lower bound of the number of random neurons in each layer of the features.

    Args:
        settings: The embedding's settings.
        image_shape: (height, width, channels) of the inputs, or None for vectors.
        dim: Length of an input.

    Returns: For each layer, from the first to the last, the number of neurons and the length of their inputs; empty if
        the features use no random neurons.
    """
    if settings.method != "random" or settings.features == "POLYNOMIAL":
        return []
    most, inputs = settings.embedding_dim, dim
    layers = 1 if settings.features == "RF" else settings.num_layers
    if settings.features == "CNTK":
        inputs = 9 * image_shape[2] if image_shape else 0
        layers = sum(MYRTLE_CONVS[settings.depth]) if settings.head == "myrtle" else settings.depth
    width = settings.embedding_width or max(most // (8 if settings.features == "CNTK" else 2), 2)
    share = 1 if settings.features == "RF" or settings.kind == "nngp" else 2
    found = []
    for layer in range(layers):
        rows, parts = (most - 1, share) if layer == layers - 1 else (width, 1)
        exact = inputs if EXACT * inputs <= rows else 0  # rows that need no neurons
        found.append((max((rows - 1 - parts * exact) // parts, 0), inputs))
        inputs = width - 1
    return found
