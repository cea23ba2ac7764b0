"""Initializer of normal weights from NumPy's seeded generator, with the same numbers on every backend."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("linearized")
class SeededNormal(keras.initializers.Initializer):
    """Initializer of N(0, stddev²) entries, drawn in float32 and cast.

    Args:
        stddev: Standard deviation, not negative.
        seed: One integer or several (such as the run's seed and the index of the layer), none negative. Equal seeds
            give equal draws, so each layer needs its own.
        paired: "outputs": columns 2i and 2i + 1 of the last axis are the same draw. "inputs": rows 2i and 2i + 1 of the
            first axis are a draw and its negative. A layer with paired outputs before one with paired inputs makes a
            network that is 0 at the start ("doubling", Chizat et al. 2019). "": independent entries.
    """

    def __init__(self, stddev: float = 1.0, seed: int | Sequence[int] = 0, paired: str = ""):
        if stddev < 0:
            raise ValueError(f"`stddev` must not be negative. Received: stddev={stddev}.")
        if paired not in ("", "outputs", "inputs"):
            raise ValueError(f"`paired` must be outputs, inputs or empty. Received: paired={paired!r}.")
        self.stddev, self.paired = float(stddev), paired
        self.seed = [int(number) for number in np.atleast_1d(seed)]
        if min(self.seed) < 0:
            raise ValueError(f"`seed` must not be negative. Received: seed={seed}.")

    def __call__(self, shape, dtype=None):
        """Return the initial values of a weight of the given shape."""
        drawn_shape, axis = list(shape), -1 if self.paired == "outputs" else 0
        if self.paired:
            if shape[axis] % 2:
                raise ValueError(f"Paired weights need an even number of {self.paired}. Received: shape={shape}.")
            drawn_shape[axis] //= 2
        drawn = np.random.default_rng(self.seed).standard_normal(tuple(drawn_shape), dtype=np.float32)
        drawn *= np.float32(self.stddev)
        if self.paired:
            drawn = np.repeat(drawn, 2, axis=axis)
        if self.paired == "inputs":
            drawn[1::2] *= -1
        return ops.convert_to_tensor(drawn, dtype=dtype or "float32")

    def get_config(self):
        """Return the configuration that `from_config` takes."""
        return {"stddev": self.stddev, "seed": self.seed, **({"paired": self.paired} if self.paired else {})}
