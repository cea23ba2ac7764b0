"""POLYNOMIAL: features of the kernel (c + x·z/√d)^p of rows with d columns, for any degree p and offset c >= 0.

The features are the sketch of degree p (`poly_sketch`) of the vector (√c, x/d^¼). Inner products of such vectors are
c + x·z/√d.
"""

import numpy as np

from kernel_gen.features.function import FeatureFunction
from linearized.base.errors import UserError
from linearized.base.shapes import Float
from linearized.settings.embedding_settings import EmbeddedRows
from linearized.settings.reads import reads

READS = reads("degree", "offset", "embedding_dim", "embedding_seed", "field")
BATCH = 256  # rows per batch


class PolynomialFeatures(FeatureFunction):
    """Features φ with φ(x)·φ(z) ≈ (c + x·z/√d)^p, a polynomial kernel of rows with d columns.

    Args:
        inputs: Number of columns d of the inputs.
        degree: Degree p of the kernel.
        offset: Offset c of the kernel, at least 0.
        width: Largest number m of features.
        seed: Random-number seed of the sketch.
        field: Signs of the sketch, "real" (±1) or "complex" (powers of i).
        dtype: Data type of the features, "float32" or "float64".

    Attributes:
        inputs, dim: Number of columns of the inputs, and of features.
        scale: "stax", the name that is stored with the features and has no other effect; x·z is always divided by √d.
        dtype: Data type of the features.
        batch: Rows that one thread computes together.

    Raises `UserError` for a negative offset and for too few features.
    """

    scale, batch = "stax", BATCH

    def __init__(self, inputs: int, degree: int, offset: float, width: int, seed: int, field: str, dtype: str):
        from kernel_gen.features.poly_sketch import PolySketch

        complex_field = field == "complex"
        if width < 1 + complex_field:
            raise UserError(f"These features need an embedding dimension of at least 2. Received: {width}.")
        if offset < 0:
            raise UserError(f"Features of (c + x·z/√d)^p need c of at least 0. Received: --offset={offset}.")
        self.inputs, self.dtype, self._offset = inputs, np.dtype(dtype), offset
        random = np.random.RandomState([seed, degree])
        rows, exact = inputs + (offset > 0), degree == 1 and inputs + (offset > 0) <= width
        field = "real" if exact else field
        self._sketch = PolySketch(
            rows, degree, width // 2 if complex_field and not exact else width, random, field=field, dtype=dtype
        )
        self.dim = rows if exact else width // 2 * 2 if complex_field else width

    def of_batch(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Return φ of a batch of finite rows (n, d), (n, m)."""
        columns = rows.T / self.dtype.type(self.inputs**0.25)
        if self._offset > 0:
            constant = np.full((1, columns.shape[1]), self._offset**0.5, self.dtype)
            columns = np.concatenate([constant, columns])
        return self._sketch(columns).T


def build(settings: EmbeddedRows, image_shape: tuple[int, ...] | None, dim: int) -> PolynomialFeatures:
    """Return the features of the polynomial kernel of degree `settings.degree` and offset `settings.offset`.

    Args:
        settings: Settings of the kernel and of the features.
        image_shape: (height, width, channels) or None; not used, because images are treated as rows.
        dim: Number of columns of the rows.
    """
    return PolynomialFeatures(
        dim, settings.degree, settings.offset, settings.embedding_dim, settings.embedding_seed, settings.field,
        settings.dtype,
    )  # fmt: skip
