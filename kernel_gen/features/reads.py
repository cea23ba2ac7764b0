"""The settings that the features of every network of layers read."""

from linearized.settings.reads import reads, when

NETWORK = reads("embedding_dim", "embedding_seed", "embedding_width", "method", "scale") | reads(
    "terms", "field", when=when(method="sketch")
)
