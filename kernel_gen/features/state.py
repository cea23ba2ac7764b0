"""The data that layers of a network pass to each other: the features of a batch, and before that their shapes.

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
    """The shape of the features that are the input of a layer; the layer is planned from this shape.

    Attributes:
        nngp, ntk: Number of features (rows) of Σ (NNGP) and of Θ (NTK); 0: that kernel is 0.
        image: Height and width of the images, or None for vectors.
        square, tangent: Σ(x, x) and Θ(x, x) of an input whose entries have mean square 1. An activation uses them to
            divide its features among the terms of Σ and of Θ.
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
        square: Σ(x, x) of each column. It is exact up to the first pool; after a pool it is computed from the features.
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
    """Return the diagonal Σ(x, x) of the kernel Σ (NNGP), estimated from its features (p, ...).

    It is the sum of the squares of the p features of each column.
    """
    return np.einsum("p...,p...->...", features, features)
