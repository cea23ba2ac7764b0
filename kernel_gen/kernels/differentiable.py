"""Kernels whose gradient in x is known in closed form: the base kernels of recursive feature machines.

Their modules declare under which settings that holds, as a condition `GRADIENTS`.
"""

import abc
from typing import Any

from kernel_gen.kernel import Kernel
from linearized.base.shapes import Float64


class DifferentiableKernel(Kernel):
    """A kernel with gradients of its expansions."""

    @abc.abstractmethod
    def gradients(self, points: Any, rows: Any, alpha: Float64[Any, "n k"]) -> Float64[Any, "k m d"]:
        """Return the gradients at `points` (m) of f_c(x) = Σ_i alpha_ic k(x, x_i), of k outputs, in float64.

        Pairs of equal rows, at which a kernel may have no derivative, count as 0. Memory: some (m, n) arrays.

        Args:
            points, rows: Prepared by the kernel, which has all that the train rows settle.
        """
