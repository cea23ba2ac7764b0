"""Kernels of a Keras model at its present weights: the empirical NTK and the kernels of layer outputs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd

from linearized.base.errors import UserError
from linearized.base.keywords import suggests_keywords
from linearized.tangents.contributions import Gradients
from linearized.tangents.model_checks import checked_inputs, checked_outputs
from linearized.tangents.signals import in_float32
from linearized.tangents.tangent_kernel import TangentKernel
from linearized.tangents.taps import recorded

ROWS = 256  # rows per forward pass


@suggests_keywords
def empirical_ntk(
    model: keras.Model, x1: Any, x2: Any = None, *, outputs: str | int = "trace",
    variables: Callable[[Any], bool] | str | None = None, explain: bool = False,
) -> np.ndarray | pd.DataFrame:  # fmt: skip
    """Return the empirical neural tangent kernel (NTK) of a Keras model at its present weights.

    For outputs f_k and f_l and rows x and x' it is Θ_kl(x, x') = Σ_w ⟨∂f_k(x)/∂w, ∂f_l(x')/∂w⟩, summed over the
    trainable variables w. Layers are in inference mode: normalisations use their stored statistics, and dropout is off.
    All computations are in float32, and the model is unchanged after the call. It costs one forward and k backward
    passes per row, and the operations per pair of rows that `explain` lists. For each variable one of two sets of
    arrays is kept in memory: the derivatives with respect to the variable, or the inputs of its layer together with the
    derivatives with respect to the layer's results. The set that needs fewer operations per pair of rows is used (see
    `linearized.tangents.paths`).

    Args:
        model: Keras model with one input and one output, of any layers; outputs with several axes are flattened to k.
        x1: Rows (n, ...) in the shape of the model's inputs.
        x2: Rows (m, ...); None: x2 = x1.
        outputs: "trace": the sum Σ_k Θ_kk; "full": every pair of outputs; "sum": the NTK of Σ_k f_k; or the index of an
            output.
        variables: Trainable variables that are included: a function of a variable, such as `lambda variable: "block5"
            in variable.path`; "last_layer", those of the last layer; parts of their paths such as "block5,head/kernel"
            or "-embeddings" (see `linearized.tangents.variable_names`); None: all.
        explain: Whether to return a table instead of the kernel. For each variable it contains the method by which its
            term is computed, and the number of operations per pair of rows.

    Returns:
        Θ in float32, (n, m), or (n, m, k, k) for "full".

    Raises:
        UserError: For several inputs or outputs, layers that draw random numbers in inference mode, outputs that depend
            on other rows of the batch, weights that are not in float32, weights or outputs that are not finite, models
            without trainable variables, rows that are not finite or that the model does not accept, a backend of
            Keras other than TensorFlow and JAX, and invalid `outputs` or `variables`.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import linearized
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
        >>> x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
        >>> np.allclose(linearized.empirical_ntk(model, x), 2 * x @ x.T, atol=1e-5)  # two outputs, each with gradient x
        True
    """
    x1 = checked_inputs(x1)
    kernel = TangentKernel(model, x1, outputs=outputs, variables=variables)
    if explain:
        rows = [(one.variable.path, tuple(one.variable.shape), one.name, one.calls, one.operations)
                for one in kernel.paths]  # fmt: skip
        return pd.DataFrame(rows, columns=["variable", "shape", "path", "calls", "operations per pair"])
    one = kernel.prepare(x1)
    return kernel.block(one, one if x2 is None else kernel.prepare(checked_inputs(x2)))


@suggests_keywords
def layer_features(model: keras.Model, x: Any, layer: str | None = None) -> np.ndarray:
    """Return the outputs of a layer of a Keras model in inference mode, flattened to (n, p), in float32.

    Args:
        model: Keras model with one input and one output.
        x: Rows (n, ...) in the shape of the model's inputs.
        layer: Name of the layer. None: the inputs of the last layer that has weights are returned instead of outputs;
            they are the features of the last hidden layer.

    Raises:
        UserError: For a name that the model does not have, a layer that the model does not call exactly once, and, as
            in `empirical_ntk`, for a model or rows that have no kernel (for example several inputs, or random numbers
            in inference mode).
    """
    x = checked_inputs(x)
    checked_outputs(model, x)
    found = []
    for start in range(0, len(x), ROWS):
        with in_float32(model), recorded(model, layer) as seen:
            model(x[start : start + ROWS], training=False)
        if layer is not None and len(seen) != 1:
            raise UserError(f"The model {model.name} calls the layer {layer} {len(seen)} times. Take another layer.")
        features = keras.ops.convert_to_numpy(seen[-1][0 if layer is None else 1])
        found.append(features.reshape(len(features), -1).astype(np.float32))
    return np.concatenate(found)


class LayerKernel:
    """Kernel φ(x)·φ(x') of the outputs φ of a layer of a Keras model.

    `prepare` computes φ once for each row, and `block` multiplies the results. `TangentKernel` has the same two
    methods, so that the same code can use both kernels.

    Args:
        model: Keras model with one input and one output.
        layer: Name of the layer; None: φ is the input of the last layer that has weights.
    """

    def __init__(self, model: keras.Model, layer: str | None = None):
        self.model, self._layer = model, layer

    def prepare(self, x: np.ndarray) -> list[Gradients]:
        """Return φ for rows (n, ...) as an argument for `block`: a list of one `Gradients` of shape (n, 1, p).

        Raises:
            UserError: For a layer, a model or rows for which `layer_features` raises an error.
        """
        return [Gradients(layer_features(self.model, x, self._layer)[:, None])]

    def block(self, one: list[Gradients], two: list[Gradients]) -> np.ndarray:
        """Return φ(x)·φ(x') for all pairs of n rows x and m rows x', (n, m); φ are the outputs of the layer.

        Args:
            one: Result of `prepare` for the n rows.
            two: Result of `prepare` for the m rows.
        """
        return one[0].trace(two[0])


@suggests_keywords
def conjugate_kernel(model: keras.Model, x1: Any, x2: Any = None, *, layer: str | None = None) -> np.ndarray:
    """Return the conjugate kernel φ(x)·φ(x') of a Keras model at its present weights, in float32, (n, m).

    φ are the outputs of a layer. With random initial weights and growing width, the kernel tends to the NNGP kernel
    (that of a Gaussian process). In the standard parametrization it must first be divided by the width.

    Args:
        model: Keras model with one input and one output.
        x1: Rows (n, ...) in the shape of the model's inputs.
        x2: Rows (m, ...); None: x2 = x1.
        layer: Name of the layer whose outputs are φ; None: φ is the input of the last layer that has weights.

    Raises:
        UserError: For a layer, a model or rows for which `layer_features` raises an error.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> import linearized
        >>> layers = [keras.layers.Dense(5, activation="relu", name="hidden"), keras.layers.Dense(1)]
        >>> model = keras.Sequential([keras.Input((3,)), *layers])
        >>> x = np.ones((2, 3), "float32")
        >>> features = linearized.layer_features(model, x)
        >>> features.shape, np.allclose(linearized.conjugate_kernel(model, x), features @ features.T)
        ((2, 5), True)
    """
    kernel = LayerKernel(model, layer)
    one = kernel.prepare(x1)
    return kernel.block(one, one if x2 is None else kernel.prepare(x2))
