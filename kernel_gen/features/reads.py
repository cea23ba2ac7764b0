"""The declaration `NETWORK` of the settings that the features of all networks read."""

from linearized.settings.reads import reads, when

NETWORK = reads("embedding_dim", "embedding_seed", "embedding_width", "method", "scale") | reads(
    "terms", "field", when=when(method="sketch")
)
