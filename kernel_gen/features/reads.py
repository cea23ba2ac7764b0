"""The constant `NETWORK`, which lists the settings that the features of every network use."""

from linearized.settings.reads import reads, when

NETWORK = (
    reads("embedding_dim", "embedding_seed", "method", "scale")
    | reads("embedding_width", when=when(method=("random", "sketch")))
    | reads("terms", "field", when=when(method="sketch"))
)
