"""Kernels whose gradient in x is known in closed form: the base kernels of recursive feature machines.

Their modules declare under which settings that holds, as a condition `GRADIENTS`.
"""

import abc
from typing import Any, Self

import numpy as np

from kernel_gen.kernel import Kernel
from linearized.base.shapes import Float64


class DifferentiableKernel(Kernel):
    """A kernel with gradients of its expansions, and the coordinates in which a metric stretches its inputs.

    Attributes:
        gradient_rows: Points at most whose gradients are made together.
        metric_shape: Shape of what the metric acts on; None: whole rows.
    """

    gradient_rows: int = 1024
    metric_shape: tuple[int, ...] | None = None

    def settled(self, train: np.ndarray) -> Self:
        """Return the kernel with what the train rows (n, d) settle before any metric; by default the kernel itself."""
        return self

    def stretch(self, x: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Return what `prepare` and `on` take in the place of rows (n, d) in a metric, of root (d, d) or (d,)."""
        return x * root if root.ndim == 1 else x @ root

    @abc.abstractmethod
    def gradients(self, points: Any, rows: Any, alpha: Float64[Any, "n k"]) -> Float64[Any, "k m d"]:
        """Return the gradients at `points` (m) of f_c(x) = Σ_i alpha_ic k(x, x_i), of k outputs, in float64.

        Pairs of equal rows, at which a kernel may have no derivative, count as 0. Memory: some (m, n) arrays.

        Args:
            points, rows: Prepared by the kernel, which has all that the train rows settle.
        """
