"""Fixed random weights W (d, N) of a first layer with d inputs and N units, shared by models and Gram matrices.

The weights are drawn as in the code of Ghorbani et al. (arXiv 2006.13409): NumPy's legacy generator, seed 1990, in
float64, cast to float32 at the end. The models RF (random features) and NT (neural tangent) draw all N units in one
call (`block=0`); the Gram matrix of RF draws blocks of 50,000 units. The same distribution, seed and block size give
the same weights on every backend.
"""

from collections.abc import Iterator

import numpy as np

from linearized.base.errors import UserError
from linearized.base.shapes import Float32, Float64

SEED = 1990
LAWS = ("sphere", "gaussian")
MOST_UNITS = 10**8  # largest number of units, far above the published 4,200,000

# Help texts of the flags that select these weights in every command.
LAW_HELP = "distribution of the fixed random weights: on the unit sphere, or N(0, 1/d)"
BLOCK_HELP = "columns of the fixed random weights that are drawn at a time, part of the draw; 0: all at once"
WEIGHT_SEED_HELP = "random-number seed of the fixed random weights"


def weight_blocks(
    dim: int, units: int, *, law: str = "sphere", seed: int = SEED, block: int = 0
) -> Iterator[Float64[np.ndarray, "d block"]]:
    """Draw the random weights W (d, N) in blocks of columns, and yield each block, in float64.

    Args:
        dim: Number of inputs d.
        units: Total number of columns N.
        law: Distribution: "sphere" gives columns uniform on the unit sphere, "gaussian" entries N(0, 1/d).
        seed: Random-number seed.
        block: Columns per draw, on which the weights depend. 0 draws all of W at once.

    Memory: 8 d min(block, N) bytes per block. Raises `UserError` for counts below 1, a negative block size and an
    unknown distribution.
    """
    if dim < 1 or units < 1 or block < 0:
        raise UserError(
            f"Weights need dim >= 1, units >= 1, block >= 0. Received: dim={dim}, units={units}, block={block}."
        )
    if law not in LAWS:
        raise UserError(f"Unknown law {law!r}. The choices are: {', '.join(LAWS)}.")
    yield from _blocks(np.random.RandomState(seed), dim, units, law, block)


def _blocks(random: np.random.RandomState, dim: int, units: int, law: str, block: int) -> Iterator[np.ndarray]:
    block = block or units
    for start in range(0, units, block):
        drawn = random.standard_normal((dim, min(block, units - start)))
        drawn /= np.linalg.norm(drawn, axis=0, keepdims=True) if law == "sphere" else np.sqrt(dim)
        yield drawn


def first_layer(
    dim: int, units: int, *, law: str = "sphere", seed: int = SEED, block: int = 0
) -> Float32[np.ndarray, "d N"]:
    """Draw all of the random weights W (d, N), and return them in float32.

    Memory: 4 d N bytes, and 8 d min(block, N) more during the draw.

    Args:
        dim: Number of inputs d.
        units: Number of columns N.
        law: Distribution: "sphere" gives columns uniform on the unit sphere, "gaussian" entries N(0, 1/d).
        seed: Random-number seed.
        block: Columns per draw, on which the weights depend. 0 draws all of W at once.

    Raises `UserError` for counts below 1, a negative block size and an unknown distribution.
    """
    weights = np.empty((dim, units), np.float32)
    start = 0
    for columns in weight_blocks(dim, units, law=law, seed=seed, block=block):
        weights[:, start : start + columns.shape[1]] = columns
        start += columns.shape[1]
    return weights


def tangent_layers(
    dim: int, units: int, outputs: int, *, law: str = "sphere", seed: int = SEED, block: int = 0
) -> tuple[Float32[np.ndarray, "d N"], Float32[np.ndarray, "k N"]]:
    """Draw the weights W (d, N) and the readout a⁰ ~ N(0, 1), (k, N), of the neural tangent model NT, in float32.

    The readout is drawn after W from the same stream of random numbers. W equals that of `first_layer` for the same
    arguments.

    Args:
        dim: Number of inputs d.
        units: Number of units N.
        outputs: Number of outputs k.
        law: Distribution: "sphere" gives columns of W uniform on the unit sphere, "gaussian" entries N(0, 1/d).
        seed: Random-number seed.
        block: Columns of W per draw, on which the weights depend. 0 draws all of W at once.
    """
    random = np.random.RandomState(seed)
    first = np.concatenate([drawn.astype(np.float32) for drawn in _blocks(random, dim, units, law, block)], axis=1)
    return first, random.standard_normal((outputs, units)).astype(np.float32)
