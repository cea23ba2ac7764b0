"""The class `Preparation`, which converts raw inputs to the rows of a `Dataset` and can be applied to new inputs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from linearized.base.array_checks import dense, real_array
from linearized.base.errors import UserError
from linearized.base.shapes import Float32


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Conversion of raw inputs to the rows that a model needs, and of the model's outputs to labels.

    The conversion was fitted on the train rows, and can be pickled. It adds no noise, even if the train rows have
    noise.

    Attributes:
        task: "classes", "binary" or "regression".
        dim: Length d of a row.
        classes: The labels of the classes as they were given, in the order of the class numbers; None: labels are the
            class numbers.
        columns: Function that converts raw inputs to float32 rows (n, d); None: rows are flattened.
        steps: Functions of rows that return rows, such as whitening, applied in this order.
        flat: Whether targets of regression were given as a vector (n,), not as a matrix (n, k).
    """

    task: str
    dim: int
    classes: np.ndarray | None = None
    columns: Callable[[Any], np.ndarray] | None = None
    steps: tuple[Callable[[np.ndarray], np.ndarray], ...] = ()
    flat: bool = True

    def then(self, step: Callable[[np.ndarray], np.ndarray]) -> "Preparation":
        """Return a copy of this object with one more step, which is applied after the others.

        Args:
            step: Function that converts float32 rows (n, d) to rows.
        """
        return dataclasses.replace(self, steps=(*self.steps, step))

    def inputs(self, x: Any) -> Float32[np.ndarray, "m d"]:
        """Convert raw inputs to float32 rows (m, d) for the model.

        Args:
            x: Inputs of m rows: an array, a sparse matrix or a data frame, of the same kind as the train rows.

        Raises `UserError` for anything except rows of real numbers, for rows of another length or other columns than
        the train rows, and for rows that are not finite.
        """
        x = dense(x, "Inputs")
        if x.ndim < 2 or not len(x):
            raise UserError(f"Inputs must be rows (m, ...), one at least. Received: an array of shape {x.shape}.")
        rows = real_array(x, "Inputs").reshape(len(x), -1) if self.columns is None else self.columns(x)
        rows = np.ascontiguousarray(rows, np.float32)
        if rows.shape[1] != self.dim:
            raise UserError(f"The model takes rows of length {self.dim}. Received: rows of length {rows.shape[1]}.")
        if not np.isfinite(rows).all():
            raise UserError(f"Row {int(np.argmin(np.isfinite(rows).all(axis=1)))} of the inputs is not finite.")
        for step in self.steps:
            rows = step(rows)
        return rows

    def labels(self, outputs: np.ndarray, *, threshold: float = 0.5) -> np.ndarray:
        """Convert the outputs of a model to predicted labels, which depend on `task`.

        Args:
            outputs: Outputs of a model (m, k).
            threshold: For the task "binary": the single output means the second class if it is above this value. 0.5
                suits outputs that were fitted to 0 and 1, and 0 suits logits.

        Returns:
            For the tasks "classes" and "binary", the class of each row (m,), in the coding of the original labels, or
            as a class number if `classes` is None. For "regression", the outputs unchanged, which are in the units of
            the train targets: (m, k), or (m,) if k = 1 and `flat`.
        """
        outputs = np.asarray(outputs)
        if self.task == "regression":
            return outputs[:, 0] if self.flat and outputs.shape[1] == 1 else outputs
        numbers = outputs.argmax(axis=1) if self.task == "classes" else (outputs[:, 0] > threshold).astype(np.int64)
        return numbers if self.classes is None else self.classes[numbers]
