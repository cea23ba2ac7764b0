"""Kernels whose gradient in x has a closed form: the base kernels of recursive feature machines.

Such a machine learns a metric M on the inputs from gradients of its fit, and uses the kernel k(√M x, √M z)
(`kernel_gen.kernels.stretched`). The module of a kernel declares in `GRADIENTS` the settings under which it has
gradients.
"""

import abc
from typing import Any, Self

import numpy as np

from kernel_gen.kernel import Kernel
from linearized.base.shapes import Float64


class DifferentiableKernel(Kernel):
    """Base class of kernels with gradients in closed form, whose inputs a metric can stretch.

    The gradients are those of expansions Σ_i alpha_i k(x, x_i) in x, from which a recursive feature machine learns the
    metric.

    Attributes:
        gradient_rows: Largest number of points whose gradients are computed together.
        metric_shape: Shape of the vectors on which the metric acts, such as that of a patch; None: whole rows.
    """

    gradient_rows: int = 1024
    metric_shape: tuple[int, ...] | None = None

    def settled(self, train: np.ndarray) -> Self:
        """Return the kernel with the parameters that the train rows (n, d) determine before a metric stretches them.

        An example is the whitening of patches. By default the kernel itself is returned.
        """
        return self

    def stretch(self, x: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Return rows multiplied by the square root of a metric; `prepare` and `on` take the result in place of rows.

        Args:
            x: Rows (n, d).
            root: Symmetric square root of the metric, (d, d), or of its diagonal, (d,).
        """
        return x * root if root.ndim == 1 else x @ root

    @abc.abstractmethod
    def gradients(self, points: Any, rows: Any, alpha: Float64[Any, "n k"]) -> Float64[Any, "k m d"]:
        """Return the gradients in x of f_c(x) = Σ_i alpha_ic k(x, x_i) at m points, (k, m, d) in float64.

        Pairs of equal rows, at which a kernel may have no derivative, contribute 0. Needs the memory of a few (m, n)
        arrays.

        Args:
            points: The m points, prepared by this kernel, whose parameters must all be set (see `on`).
            rows: The n rows x_i, prepared in the same way.
            alpha: Coefficients (n, k) of the expansions, one column for each output c.
        """
