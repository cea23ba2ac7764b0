"""What a kernel is to those who compute Gram matrices: inputs prepared once, blocks of pairs computed from them."""

import abc
from typing import Any

import numpy as np


class Kernel(abc.ABC):
    """k(x, z) for blocks of rows.

    Attributes:
        tile: The side of a square block that runs at full speed in moderate memory.
        scale: "input" (raw inputs, as published for two layers) or "stax" (inputs divided by √d or √channels).
        dtype: Of the blocks, float32 or float64.
        own_threads: Whether `block` takes all cores by itself; else it takes one, and blocks are computed side by side.
    """

    tile: int
    scale: str
    dtype: np.dtype
    own_threads: bool = False

    @abc.abstractmethod
    def prepare(self, x: np.ndarray) -> Any:
        """What depends on one input alone (norms, diagonal maps), for rows (n, d); may be sliced by rows, has len."""

    @abc.abstractmethod
    def block(self, one: Any, two: Any, *, same: bool = False) -> np.ndarray:
        """k between two prepared sets, (n1, n2). `same`: both are the same rows, and correlation 1 is exact there."""
