"""Lower bounds of the arithmetic that a job needs, and refusal of jobs that would take more than `MOST_DAYS`.

The bounds are computed from settings and numbers of rows. They count matrix products, passes over entries and random
draws that cannot be avoided. The time of a job is estimated from the highest rate that a machine reaches, that of one
long product. A refused job therefore cannot finish on this machine in `MOST_DAYS`, and an accepted one may take several
times as long as estimated. If the parts of a job are saved one by one, only one part is counted: one requested shard,
or one ridge of gradient training. The estimate is made for this machine when the work starts, not when settings are
read.

Linear solvers are not estimated, because they fit in memory only if their work is bounded too (see
`linearized.settings.memory`).
"""

from typing import TYPE_CHECKING

from linearized.base.accelerators import may_have_accelerator
from linearized.base.blocks import cores
from linearized.base.errors import UserError
from linearized.settings.memory import MYRTLE_CONVS, neurons

if TYPE_CHECKING:
    from linearized.settings.embedding_settings import EmbeddedRows
    from linearized.settings.gram_settings import KernelSettings, RowSettings

MOST_DAYS = 30
CORE = 2e11  # operations per second of one core in a large float32 product; measured: 1.2e11 to 2.3e11
ACCELERATOR = 1e15  # operations per second of a machine with accelerators, in bfloat16
DRAW = 500  # operations that take as long as drawing one normal number, which a single thread does
ENTRY = 40  # operations per entry of a Gram matrix in each layer with a nonlinearity
MYRTLE_REACH = 32  # product of the sides of a Myrtle network's pools: pixels at most this far apart are coupled
DAY = 86400
WORTH_XLA = 1e12  # operations of a run; XLA saves 12 to 17 % of its time and takes that of 5e10 of them to compile


def rate() -> float:
    """Return an upper bound of the arithmetic operations that this machine performs per second."""
    return ACCELERATOR if may_have_accelerator() else CORE * cores()


def refuse_endless(operations: float, what: str, advice: str) -> None:
    """Raise `UserError` if the machine cannot perform this many operations in `MOST_DAYS`.

    Args:
        operations: Lower bound of the number of arithmetic operations.
        what: The flags that cause the work.
        advice: One sentence that says what to do instead.
    """
    days = operations / rate() / DAY
    if days > MOST_DAYS:
        time = f"{days / 365:,.0f} years" if days > 730 else f"{days:,.0f} days"
        raise UserError(
            f"{what} needs {operations:.1e} arithmetic operations at least, {time} on this machine at its highest rate "
            f"of {rate():.0e} a second, and {MOST_DAYS} days are the most that are begun. {advice}"
        )


def refuse_endless_kernel(settings: "RowSettings", pairs: float) -> None:
    """Raise `UserError` if `pairs` entries of a Gram matrix cannot be computed on this machine in `MOST_DAYS`.

    Args:
        settings: Settings of the kernel and of the rows.
        pairs: Number of pairs of rows for which the kernel is computed.
    """
    shape = settings.described().image_shape
    refuse_endless(pairs * pair_operations(settings, settings.dim(), shape), *_words(settings, pairs, "pairs"))


def refuse_endless_embedding(settings: "EmbeddedRows", rows: float) -> None:
    """Raise `UserError` if the random features of `rows` rows cannot be computed on this machine in `MOST_DAYS`.

    Args:
        settings: Settings of the embedding and of the rows.
        rows: Number of rows.
    """
    shape, dim = settings.described().image_shape, settings.dim()
    operations = rows * row_operations(settings, shape, dim) + DRAW * drawn(settings, shape, dim)
    refuse_endless(operations, *_words(settings, rows, "rows"))


def refuse_endless_centres(settings: "RowSettings", centres: int, rows: int) -> None:
    """Raise `UserError` if a fit on centres would take longer than `MOST_DAYS` on this machine.

    The bound counts the computation of the kernel between all rows and the centres, and the products with this matrix.

    Args:
        settings: Settings of the kernel and of the rows.
        centres: Number of train rows that carry coefficients.
        rows: Number of rows, train and others, whose kernel with the centres is computed.
    """
    operations = (
        rows * centres * (pair_operations(settings, settings.dim(), settings.described().image_shape) + centres)
    )
    refuse_endless(
        operations, f"--kernel={settings.kernel} with --centres={centres} and {rows:,} rows of {settings.data_name()}",
        "Lower --centres, or --num_train and --num_test.",
    )  # fmt: skip


def gram_pairs(rows: dict[str, int]) -> int:
    """Return the number of pairs of rows for which a Gram matrix has to be computed.

    Each pair of train rows counts once. Each train row is also paired with every validation and test row.

    Args:
        rows: Number of rows by part: train, validation, test. Unknown numbers are 0, which makes the result a lower
            bound.
    """
    n = rows["train"]
    return n * (n + 1) // 2 + n * (sum(rows.values()) - n)


def pair_operations(settings: "KernelSettings", dim: int, image_shape: tuple[int, ...] | None) -> float:
    """Return a lower bound of the arithmetic operations of one entry of a Gram matrix.

    Kernels of the user's own and of Keras models count as one inner product.

    Args:
        settings: The kernel's settings.
        dim: Length of a row.
        image_shape: (height, width, channels) of the rows, or None for vectors.
    """
    products = 2 * dim
    if settings.kernel == "RF" and settings.num_units:
        return 2 * settings.num_units  # of the features, which the pairs of a tile share
    if settings.kernel in ("NTK", "RF"):
        return products + ENTRY * (settings.num_layers if settings.kernel == "NTK" else 1)
    if settings.kernel == "CNTK" and image_shape:
        return ENTRY * _coupled_pixels(settings, image_shape)
    return products


def row_operations(settings: "EmbeddedRows", image_shape: tuple[int, ...] | None, dim: int) -> float:
    """Return a lower bound of the arithmetic operations of one row's random features.

    Args:
        settings: The embedding's settings.
        image_shape: (height, width, channels) of the rows, or None for vectors.
        dim: Length of a row.
    """
    if settings.features == "CNTK" and image_shape:
        pixels = image_shape[0] * image_shape[1]
        pixels = max(pixels // MYRTLE_REACH**2, 1) if settings.head == "myrtle" else pixels
    else:
        pixels = 1
    return 2 * pixels * sum(units * inputs for units, inputs in neurons(settings, image_shape, dim)) + 2 * dim


def drawn(settings: "EmbeddedRows", image_shape: tuple[int, ...] | None, dim: int) -> int:
    """Return a lower bound of the number of Gaussian random numbers that are drawn for an embedding.

    These are the weights of its random neurons.

    Args:
        settings: The embedding's settings.
        image_shape: (height, width, channels) of the rows, or None for vectors.
        dim: Length of a row.
    """
    return sum(units * inputs for units, inputs in neurons(settings, image_shape, dim))


def _coupled_pixels(settings: "KernelSettings", image_shape: tuple[int, ...]) -> int:
    """Return the number of pairs of pixels that one entry of a CNTK needs, summed over the kernel's convolutions.

    The CNTK is the tangent kernel of a convolutional network. A pair has one pixel in each of two images.

    Args:
        settings: The kernel's settings.
        image_shape: (height, width, channels) of the images.
    """
    pixels = image_shape[0] * image_shape[1]
    if settings.head == "flatten":
        return pixels * settings.depth
    if settings.head == "gap":
        return pixels**2 * settings.depth
    groups = MYRTLE_CONVS[settings.depth]
    sizes = [(pixels // 4**group, MYRTLE_REACH // 2**group) for group in range(len(groups))]
    return sum(count * here * min(here, reach**2) for count, (here, reach) in zip(groups, sizes, strict=True))


def _words(settings: "RowSettings", count: float, unit: str) -> tuple[str, str]:
    """Return a phrase with the flags that determine the work, and a sentence that advises which of them to lower.

    Args:
        settings: Settings of the kernel or the embedding, and of the rows.
        count: Number of units of work.
        unit: Name of the unit, such as "rows".
    """
    names = [
        name
        for name in ("num_units", "num_layers", "depth", "embedding_dim", "embedding_width")
        if hasattr(settings, name) and settings.reads(name) and getattr(settings, name)
    ]
    flags = "".join(f" --{name}={getattr(settings, name)}" for name in names)
    lower = ", ".join([*(f"--{name}" for name in names), "--num_train or --num_test"])
    kind = f"--features={settings.features}" if getattr(settings, "features", "") else f"--kernel={settings.kernel}"
    advice = f"Lower {lower}, or give single shards (--num_shards and --shard) to several machines."
    return f"{kind}{flags} on {count:,.0f} {unit} of {settings.data_name()}", advice
