"""Batches of rows for Keras, in an order that depends only on the seed and the epoch, so that runs can be resumed."""

import math

import keras
import numpy as np

from linearized.base.shapes import Float32
from linearized.solvers.training.recipe import Recipe, moved


class Batches(keras.utils.PyDataset):
    """Batches of rows for Keras; the last batch holds the remaining rows, so every row is used once per epoch.

    The rows of a batch are in the order of the file, in which a memory map is read faster.

    Args:
        x: Inputs (n, d), in memory or memory-mapped.
        y: Targets (n, k).
        size: Rows per batch; at most n.
        seed: Random-number seed that assigns rows to batches; None keeps the rows in order.
        recipe: Options of training; only those of augmentation are used. Images are shifted or mirrored at random,
            differently in each epoch. None: no augmentation.
        image_shape: (height, width, channels) of a row, for augmentation.
    """

    def __init__(
        self,
        x: Float32[np.ndarray, "n d"],
        y: Float32[np.ndarray, "n k"],
        size: int,
        seed: int | None = None,
        recipe: Recipe | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        self.x, self.y, self.size, self.seed = x, y, min(size, len(x)), seed
        self.recipe, self.image_shape, self.epoch = recipe, image_shape, 0
        self.order = None
        self.start(0)

    def start(self, epoch: int) -> None:
        """Draw the row order of an epoch; the training loop calls this before the first batch of the epoch.

        Args:
            epoch: Number of the epoch, from 0. The order depends only on this number and on the seed.
        """
        self.epoch = epoch
        if self.seed is not None:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.size)

    def __getitem__(self, index: int) -> tuple[Float32[np.ndarray, "b d"], Float32[np.ndarray, "b k"]]:
        rows = slice(index * self.size, (index + 1) * self.size)
        if self.order is not None:
            rows = np.sort(self.order[rows])  # in file order, in which a memory map is read faster
        x, y = np.asarray(self.x[rows]), np.asarray(self.y[rows])
        if self.recipe is not None and self.recipe.augments():
            random = np.random.default_rng([self.seed or 0, self.epoch, index])
            x = moved(x, self.image_shape, self.recipe.augment_crop, self.recipe.augment_flip, random)
        return x, y
