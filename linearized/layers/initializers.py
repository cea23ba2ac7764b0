"""Normal weights from NumPy's seeded generator: the same numbers on every backend, and none left over to chance."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("linearized")
class SeededNormal(keras.initializers.Initializer):
    """N(0, stddev²) entries, drawn in float32 and cast.

    Args:
        stddev: Standard deviation, not negative.
        seed: One integer or several (such as the run's seed and the number of the layer), none negative. Equal seeds
            give equal draws, so each layer takes its own.
    """

    def __init__(self, stddev: float = 1.0, seed: int | Sequence[int] = 0):
        if stddev < 0:
            raise ValueError(f"`stddev` must not be negative. Received: stddev={stddev}.")
        self.stddev = float(stddev)
        self.seed = [int(number) for number in np.atleast_1d(seed)]
        if min(self.seed) < 0:
            raise ValueError(f"`seed` must not be negative. Received: seed={seed}.")

    def __call__(self, shape, dtype=None):
        drawn = np.random.default_rng(self.seed).standard_normal(tuple(shape), dtype=np.float32)
        drawn *= np.float32(self.stddev)
        return ops.convert_to_tensor(drawn, dtype=dtype or "float32")

    def get_config(self):
        return {"stddev": self.stddev, "seed": self.seed}
