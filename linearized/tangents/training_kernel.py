"""Tangent kernel for training by SGD, in which layers may have different learning rates."""

from typing import Any

import keras
import numpy as np

from linearized.base.shapes import Float32
from linearized.solvers.training.declared import gradient_scales
from linearized.tangents.model_checks import checked_inputs
from linearized.tangents.tangent_kernel import TangentKernel

ROWS = 128  # rows of `others` that are prepared together


def training_kernels(
    model: keras.Model, x: Any, others: Any
) -> tuple[Float32[np.ndarray, "n n"], Float32[np.ndarray, "m n"]]:
    """Return the training kernel Θ of a Keras model f at its present weights, as Θ(x, x) and Θ(others, x).

    Θ(x, x') = (1/k) Σ_l Σ_w r_w ∂f_l(x)/∂w ∂f_l(x')/∂w over the k outputs f_l and all trainable weights w, where r_w is
    the factor of the learning rate that the layer of w declares (`gradient_scales`). For one output, Θ determines how a
    small step of SGD changes f. For several outputs, Θ is the mean of the kernels of the outputs. If the outputs are
    independent of each other, as at infinite width, this is also the kernel of each output.

    Args:
        model: Keras model with one input and one output.
        x: Rows (n, ...), whose derivatives are kept in memory.
        others: Rows (m, ...), processed in blocks.

    Returns:
        Θ(x, x), (n, n), and Θ(others, x), (m, n).

    Raises:
        UserError: For a model or rows that have no tangent kernel, as in `linearized.empirical_ntk`.
    """
    x, others = checked_inputs(x), checked_inputs(others)
    scales = {
        id(variable): scale for variable, scale in zip(model.trainable_variables, gradient_scales(model), strict=True)
    }
    square, cross = np.zeros((len(x), len(x)), np.float32), np.zeros((len(others), len(x)), np.float32)
    for scale in sorted(set(scales.values())):
        kernel = TangentKernel(model, x, variables=lambda variable, mine=scale: scales[id(variable)] == mine)
        prepared = kernel.prepare(x)
        square += np.float32(scale / kernel.outputs) * kernel.block(prepared, prepared)
        for start in range(0, len(others), ROWS):
            rows = slice(start, start + ROWS)
            part = kernel.block(kernel.prepare(others[rows]), prepared)
            cross[rows] += np.float32(scale / kernel.outputs) * part
    return square, cross
