"""Keras layers of this project, such as kervolutions, lambda layers and scalable neural network kernels (SNNKs).

The layers are written with `keras.ops`, except `Linearization`, which needs TensorFlow or JAX. Importing this package
registers the layers with Keras, so that saved models with these layers can be loaded.
"""

from linearized.layers.batch_norm import SettledBatchNorm
from linearized.layers.favor_attention import FavorAttention
from linearized.layers.initializers import SeededNormal
from linearized.layers.kervolution import Kervolution1D, Kervolution2D, Kervolution3D
from linearized.layers.lambda_layer import LambdaLayer
from linearized.layers.linearization import Linearization
from linearized.layers.mean_field import MeanFieldDense
from linearized.layers.neural_tangent import NeuralTangent
from linearized.layers.position_embedding import PositionEmbedding
from linearized.layers.positions import Positions
from linearized.layers.random_features import RandomFeatures
from linearized.layers.rated import NamedFunction, RatedConv2D, RatedDense
from linearized.layers.snnk.adapter import Adapted, SNNKAdapter
from linearized.layers.snnk.expansions import Fourier, Power
from linearized.layers.snnk.exponentials import Exponentials
from linearized.layers.snnk.layer import SNNK
from linearized.layers.snnk.universal import UniversalFeatures
from linearized.layers.surgery.swapped import SwappedLayer, SwappedModel

__all__ = [
    "SNNK",
    "Adapted",
    "Exponentials",
    "FavorAttention",
    "Fourier",
    "Kervolution1D",
    "Kervolution2D",
    "Kervolution3D",
    "LambdaLayer",
    "Linearization",
    "MeanFieldDense",
    "NamedFunction",
    "NeuralTangent",
    "PositionEmbedding",
    "Positions",
    "Power",
    "RandomFeatures",
    "RatedConv2D",
    "RatedDense",
    "SNNKAdapter",
    "SeededNormal",
    "SettledBatchNorm",
    "SwappedLayer",
    "SwappedModel",
    "UniversalFeatures",
]
