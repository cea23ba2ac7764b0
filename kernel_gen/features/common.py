"""Functions that convert the settings of features to objects: an activation, a plan, landmark features, or a scale."""

import copy

from kernel_gen import KERNELS
from kernel_gen.features.activation import Approximation
from kernel_gen.features.landmarks import Landmarks
from kernel_gen.features.network import EmbeddingPlan
from kernel_gen.features.nonlinearity import Nonlinearity, nonlinearity
from linearized.settings.embedding_settings import EmbeddedRows


def activation_of(settings: EmbeddedRows | None) -> Nonlinearity:
    """Return the activation of the settings as a `Nonlinearity`; ReLU if `settings` is None."""
    return nonlinearity("relu" if settings is None else settings.activation)


def embedding_of(settings: EmbeddedRows) -> EmbeddingPlan:
    """Return the `EmbeddingPlan` of these settings: the number of features and the method of their approximation."""
    how = Approximation(settings.method, settings.terms, settings.field, settings.dtype)
    return EmbeddingPlan(settings.embedding_dim, settings.embedding_width, how, settings.embedding_seed)


def landmarks_of(settings: EmbeddedRows, dim: int) -> Landmarks:
    """Return the landmark features of the kernel that the settings describe, before landmarks are drawn.

    The kernel is built twice, in the data type of the settings and in float64.

    Args:
        settings: Settings of the kernel and of the features.
        dim: Number of columns of the rows.
    """
    build, wide = KERNELS.load(settings.kernel).build, copy.copy(settings)
    object.__setattr__(wide, "dtype", "float64")  # `replace` would refuse activations that are functions
    return Landmarks(build(settings, None), build(wide, None), dim, settings.embedding_dim, settings.embedding_seed)


def scale_of(settings: EmbeddedRows, published: str) -> str:
    """Return the scale of the inputs, "input" or "stax".

    Args:
        settings: Settings of the kernel and of the features.
        published: Scale, "input" or "stax", that --scale=published selects for this kernel.
    """
    return published if settings.scale == "published" else settings.scale
