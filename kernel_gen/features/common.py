"""What the entries of the table of features share: settings become layers, scales and an `Embedding`."""

from data.embedding_settings import EmbeddedRows
from data.errors import UserError
from kernel_gen.features.activation import Approximation
from kernel_gen.features.network import Embedding
from kernel_gen.features.nonlinearity import Nonlinearity, nonlinearity
from kernel_gen.kernels.checks import only_scale, refuse_others

__all__ = ["activation_of", "embedding_of", "only_stax", "refuse_others", "scale_of"]


def activation_of(settings: EmbeddedRows | None) -> Nonlinearity:
    """The activation of the settings; None: ReLU."""
    return nonlinearity("relu" if settings is None else settings.activation)


def embedding_of(settings: EmbeddedRows) -> Embedding:
    """How the settings embed."""
    if settings.method == "random" and (settings.terms, settings.field) != (8, "real"):
        raise UserError("--terms and --field are those of --method=sketch. Leave them out, or give that method.")
    how = Approximation(settings.method, settings.terms, settings.field, settings.dtype)
    return Embedding(settings.embedding_dim, settings.embedding_width, how, settings.embedding_seed)


def scale_of(settings: EmbeddedRows, published: str) -> str:
    """input or stax."""
    return published if settings.scale == "published" else settings.scale


def only_stax(settings: EmbeddedRows, name: str) -> None:
    """Refuses --scale=input."""
    only_scale(settings, name)
