"""Initializer that draws normal weights by NumPy's seeded generator, so that every backend gets the same numbers."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("linearized")
class SeededNormal(keras.initializers.Initializer):
    """Initializer of N(0, stddev²) entries, drawn in float32 and cast to the data type of the weight.

    Args:
        stddev: Standard deviation, not negative.
        seed: Random-number seed: one integer or several (such as the run's seed and the index of the layer), none
            negative. Equal seeds give equal draws, so each layer needs its own.
        paired: "": all entries are independent. "outputs": columns 2i and 2i + 1 of the last axis are equal. "inputs":
            rows 2i and 2i + 1 of the first axis are a draw and its negative. If the last hidden layer has paired
            outputs and the linear layer after it has paired inputs, the network's outputs are 0 at the start
            ("doubling", Chizat et al. 2019).

    Raises:
        ValueError: For a negative `stddev` or `seed` or an unknown `paired`, and, at the call, if the paired axis has
            an odd length.
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
        """Return the initial values of a weight of the given shape; `dtype` None stands for float32."""
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
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        return {"stddev": self.stddev, "seed": self.seed, **({"paired": self.paired} if self.paired else {})}
