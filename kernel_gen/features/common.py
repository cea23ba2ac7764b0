"""What the entries of the table of features share: settings become layers, scales and an `EmbeddingPlan`."""

from kernel_gen.features.activation import Approximation
from kernel_gen.features.network import EmbeddingPlan
from kernel_gen.features.nonlinearity import Nonlinearity, nonlinearity
from linearized.settings.embedding_settings import EmbeddedRows


def activation_of(settings: EmbeddedRows | None) -> Nonlinearity:
    """The activation of the settings; None: ReLU."""
    return nonlinearity("relu" if settings is None else settings.activation)


def embedding_of(settings: EmbeddedRows) -> EmbeddingPlan:
    """How the settings embed."""
    how = Approximation(settings.method, settings.terms, settings.field, settings.dtype)
    return EmbeddingPlan(settings.embedding_dim, settings.embedding_width, how, settings.embedding_seed)


def scale_of(settings: EmbeddedRows, published: str) -> str:
    """input or stax."""
    return published if settings.scale == "published" else settings.scale
