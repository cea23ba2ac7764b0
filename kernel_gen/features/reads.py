"""The constant `NETWORK`: the settings that the features of every network kernel read."""

from linearized.settings.reads import reads, when

NETWORK = (
    reads("embedding_dim", "embedding_seed", "method", "scale")
    | reads("embedding_width", when=when(method=("random", "sketch")))
    | reads("terms", "field", when=when(method="sketch"))
)
