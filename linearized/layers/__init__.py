"""Keras building blocks, written with `keras.ops` alone. Importing this package registers them for loading a model."""

from linearized.layers.initializers import SeededNormal
from linearized.layers.mean_field import MeanFieldDense
from linearized.layers.neural_tangent import NeuralTangent
from linearized.layers.random_features import RandomFeatures

__all__ = ["MeanFieldDense", "NeuralTangent", "RandomFeatures", "SeededNormal"]
