"""The data that the layers of features pass to each other: features of a batch, and their shape for planning.

The features are those of two kernels: Σ, the covariance of the layer's outputs at initialisation (NNGP), and Θ, the
tangent kernel (NTK). They are arrays (rows, columns), with a column for each input, or (rows, images, height, width),
with a column for each pixel. Layers are planned from the shape before any data is read.
"""

import dataclasses
import math

import numpy as np

from linearized.base.shapes import Float


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of the features that a layer gets, from which the layer is planned.

    Attributes:
        nngp, ntk: Rows of the features of Σ (NNGP) and of Θ (NTK); 0: that kernel is 0.
        image: Height and width of the images, or None for vectors.
        square, tangent: Σ(x, x) and Θ(x, x) of an input whose entries have mean square 1. From them an activation
            decides how many features each part of Σ and of Θ gets.
        twins: Whether the features of Θ are equal to those of Σ, as after the first layer with weights.
    """

    nngp: int
    ntk: int
    image: tuple[int, int] | None
    square: float = 1.0
    tangent: float = 0.0
    twins: bool = False


@dataclasses.dataclass
class FeatureState:
    """The features of a batch of inputs after one of the layers.

    Attributes:
        nngp, ntk: Features of Σ (NNGP) and of Θ (NTK), arrays (rows, columns) or (rows, images, height, width).
        square: Σ(x, x) of each column, exact up to the first pool and computed from the features after it.
    """

    nngp: Float[np.ndarray, "p columns ..."]
    ntk: Float[np.ndarray, "q columns ..."]
    square: Float[np.ndarray, "columns ..."]

    def flat(self, features: Float[np.ndarray, "p columns ..."]) -> Float[np.ndarray, "p all"]:
        """Return features (p, inputs) or (p, images, height, width) as a matrix (p, all) that a layer can multiply.

        The matrix has one row per feature and one column for each input, or for each pixel of each image.
        """
        return features.reshape(len(features), math.prod(self.square.shape))


def squares_of(features: Float[np.ndarray, "p columns ..."]) -> Float[np.ndarray, "columns ..."]:
    """Return the diagonal Σ(x, x) of the kernel Σ (NNGP) that features (p, ...) of it approximate.

    It is the sum of the squares of the p features of each column.
    """
    return np.einsum("p...,p...->...", features, features)
