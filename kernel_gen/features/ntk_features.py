"""NTK: the fully connected network of `num_layers` dense layers, as `kernel_gen.kernels.ntk` has it, embedded."""

from kernel_gen.features.common import activation_of, embedding_of, scale_of
from kernel_gen.features.linear import DenseStep
from kernel_gen.features.network import Features
from linearized.settings.embedding_settings import EmbeddedRows


def build(settings: EmbeddedRows, image_shape: tuple[int, ...] | None, dim: int) -> Features:
    """Features of the kernel of the settings; images are rows to it. Published: raw inputs for two layers of ReLU."""
    raw = settings.num_layers == 2 and activation_of(settings) == activation_of(None)
    scale = scale_of(settings, "input" if raw else "stax")
    dense = DenseStep(settings.weight_std, settings.bias_std)
    layers = [dense] + [layer for _ in range(settings.num_layers - 1) for layer in (activation_of(settings), dense)]
    return Features(layers, dim, None, settings.kind, embedding_of(settings), scale=scale)
