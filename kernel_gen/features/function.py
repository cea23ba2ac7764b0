"""The base class of features: functions φ of rows, computed on all cores in batches."""

import abc

import numpy as np

from kernel_gen.kernel import quiet
from kernel_gen.rows import finite_rows
from linearized.base.array_checks import refuse_not_finite
from linearized.base.blocks import for_each
from linearized.base.errors import UserError
from linearized.base.shapes import Float

OVERFLOW = "Take dtype=float64, lower weight_std, or scale the inputs."


class FeatureFunction(abc.ABC):
    """A function φ that maps rows (n, d) to features (n, m) with φ(x)·φ(z) ≈ k(x, z) for a kernel k.

    Attributes:
        inputs: Number of columns d of the rows.
        dim: Number m of features.
        scale: "input" (raw inputs) or "stax" (inputs divided by √d for rows of d columns, by √channels for images).
        dtype: Data type of the features, float32 or float64.
        batch: Rows that one thread computes together.
    """

    inputs: int
    dim: int
    scale: str
    dtype: np.dtype
    batch: int

    def on(self, train: Float[np.ndarray, "n d"]) -> "FeatureFunction":
        """Return φ with the parameters that the train rows determine, such as landmarks.

        By default φ itself is returned, because it depends on its random-number seed alone. The result has its final
        `dim`. Long computations are not done here but in `ready`.

        Args:
            train: Train rows (n, d).
        """
        return self

    def ready(self) -> "FeatureFunction":
        """Perform the long computations that φ needs before its first row, unless they are done, and return φ.

        By default there are none. Each call of φ calls this method first. A program that calls φ in several threads
        saves time if it calls this method before.
        """
        return self

    def __call__(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Return φ of each row of `x` (n, d), an array (n, m), computed on all cores in batches.

        In addition to the result, this takes memory for one batch on each core. Raises `UserError` for rows of a
        different length and for numbers that are not finite.
        """
        if np.ndim(x) != 2 or np.shape(x)[1] != self.inputs:
            raise UserError(f"These features were made for rows of {self.inputs} numbers. Received: {np.shape(x)}.")
        self.ready()
        out = np.empty((len(x), self.dim), self.dtype)

        def fill(rows: slice) -> None:
            with quiet():
                out[rows] = self.of_batch(finite_rows(x[rows], self.dtype))
            refuse_not_finite(out[rows], f"Features, from row {rows.start} on,", OVERFLOW)

        for_each([slice(start, start + self.batch) for start in range(0, len(x), self.batch)], fill)
        return out

    @abc.abstractmethod
    def of_batch(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Return φ of a batch of finite rows (n, d) in the data type of the features, (n, m)."""
