"""Kernels whose gradient in x has a closed form: the base kernels of recursive feature machines.

Their modules declare the settings under which this holds as a condition `GRADIENTS`.
"""

import abc
from typing import Any, Self

import numpy as np

from kernel_gen.kernel import Kernel
from linearized.base.shapes import Float64


class DifferentiableKernel(Kernel):
    """A kernel with gradients of its expansions, and the coordinates in which a metric stretches its inputs.

    Attributes:
        gradient_rows: Largest number of points whose gradients are computed together.
        metric_shape: Shape of the vectors on which the metric acts; None: whole rows.
    """

    gradient_rows: int = 1024
    metric_shape: tuple[int, ...] | None = None

    def settled(self, train: np.ndarray) -> Self:
        """Return the kernel with the parameters that the train rows (n, d) determine before any metric.

        By default it is the kernel itself.
        """
        return self

    def stretch(self, x: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Return the input of `prepare` and `on` for rows (n, d) in a metric with root (d, d) or (d,)."""
        return x * root if root.ndim == 1 else x @ root

    @abc.abstractmethod
    def gradients(self, points: Any, rows: Any, alpha: Float64[Any, "n k"]) -> Float64[Any, "k m d"]:
        """Return the gradients at `points` (m) of f_c(x) = Σ_i alpha_ic k(x, x_i), of k outputs, in float64.

        Pairs of equal rows, at which a kernel may have no derivative, contribute 0. Needs the memory of a few (m, n)
        arrays.

        Args:
            points: Points prepared by the kernel, with all parameters set from the train rows.
            rows: Rows x_i prepared in the same way.
            alpha: Coefficients of the expansions, one column for each output.
        """
