"""Kernels whose gradient in x has a closed form: the base kernels of recursive feature machines.

Such a machine learns a metric M on the inputs from the gradients of a fitted function, and uses the kernel
k(√M x, √M z) (`kernel_gen.kernels.stretched`). The constant `GRADIENTS` of a kernel's module states for which settings
the kernel has gradients.
"""

import abc
from typing import Any

import numpy as np

from kernel_gen.kernel import Kernel, OneKernel
from linearized.base.shapes import Float64


class DifferentiableKernel(Kernel):
    """Base class of kernels with gradients in closed form, whose inputs can be multiplied by the root of a metric.

    `gradients` returns the gradients in x of expansions Σ_i alpha_i k(x, x_i). A recursive feature machine computes its
    metric from them.

    Attributes:
        gradient_rows: Largest number of points whose gradients are computed together.
        metric_shape: Shape of the vectors on which the metric acts, such as that of a patch; None: whole rows.
    """

    gradient_rows: int = 1024
    metric_shape: tuple[int, ...] | None = None

    def settled(self: OneKernel, train: np.ndarray) -> OneKernel:
        """Return the kernel with the parameters that the original train rows (n, d) determine.

        Original rows are rows that no metric has been applied to yet. An example of such a parameter is the whitening
        of patches. By default the kernel itself is returned.
        """
        return self

    def deciding(self, train: np.ndarray) -> np.ndarray:
        """Return the train rows that determine the parameters which `on` sets; by default all.

        Only these rows are multiplied by the root of a metric to compute the parameters.

        Args:
            train: Train rows (n, d).
        """
        return train

    def stretch(self, x: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Return rows multiplied by the square root of a metric, which `prepare` and `on` accept in place of rows.

        Args:
            x: Rows (n, d).
            root: Symmetric square root of the metric, (d, d), or of its diagonal, (d,).
        """
        return x * root if root.ndim == 1 else x @ root

    @abc.abstractmethod
    def gradients(self, points: Any, rows: Any, alpha: Float64[Any, "n k"]) -> Float64[Any, "k m d"]:
        """Return the gradients in x of f_c(x) = Σ_i alpha_ic k(x, x_i) at m points, (k, m, d) in float64.

        Pairs of equal rows contribute 0, because a kernel may have no derivative there. It needs memory for a few
        arrays (m, n).

        Args:
            points: The m points, prepared by this kernel, whose parameters must all be set (see `on`).
            rows: The n rows x_i, prepared in the same way.
            alpha: Coefficients (n, k) of the expansions, one column for each output c.
        """
