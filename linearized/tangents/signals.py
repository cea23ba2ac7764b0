"""Inputs of the layers of a Keras model, and derivatives of the model's outputs with respect to tensors inside it.

These tensors are the sites of the layers: s = h ⋆ w + b for a layer with inputs h, weights w and bias b, before the
activation. The derivatives with respect to w and b follow from h and the derivatives with respect to s (see
`linearized.tangents.rules`). `Signals` compiles one forward and k backward passes of a block of rows, for k outputs,
on TensorFlow or JAX. Layers compute in inference mode and in float32.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import one_line
from linearized.base.shapes import Float32
from linearized.tangents.taps import Call, tapped

COTANGENTS = 16  # number of outputs whose backward passes are compiled together


class Signals:
    """Compiled function that maps a block of rows to the inputs of a model's layers and the derivatives of its outputs.

    The derivatives are those with respect to the site of each layer, which is the tensor that is linear in the layer's
    variables: the input of its activation, or its output.

    Args:
        model: Keras model with one array as input and one as output; outputs with several axes are flattened to (n, k).
        cotangents: Coefficients (m, k) of m linear combinations of the outputs, whose derivatives are computed.
    """

    def __init__(self, model: keras.Model, cotangents: np.ndarray):
        self.model, self._cotangents = model, cotangents
        self.calls: list[Call] = []
        self._compiled = BACKENDS[keras.backend.backend()](self)

    def __call__(self, x: np.ndarray) -> list[tuple[Call, np.ndarray, np.ndarray]]:
        """Compute the inputs of layers for n rows, and the derivatives of m combinations of the model's outputs.

        Only layers that have trainable variables, and whose type has a rule in `linearized.tangents.rules`, are
        included. The model is evaluated once for every 16 combinations.

        Args:
            x: Rows (n, ...).

        Returns:
            A list with one triple for each call of such a layer: the layer and the name of its rule (a `Call` whose
            arrays are None), the inputs of the layer, and the derivatives `(n, m, *shape)` with respect to its site.

        Raises:
            UserError: For a model that the backend cannot compile or differentiate.
        """
        chunks = range(0, len(self._cotangents), COTANGENTS)
        with in_float32(self.model):
            try:
                parts = [self._compiled(x, self._cotangents[start : start + COTANGENTS]) for start in chunks]
            except Exception as error:  # compiling a layer may raise any exception
                raise UserError(f"The model {self.model.name} cannot be compiled and differentiated: "
                                f"{one_line(error)}.") from error  # fmt: skip
        signals = [own[0] if len(own) == 1 else np.concatenate(own, axis=1)
                   for own in zip(*(part[1] for part in parts), strict=True)]  # fmt: skip
        return list(zip(self.calls, map(np.asarray, parts[0][0]), signals, strict=True))


def flat(outputs: Any) -> Any:
    """Flatten a tensor of outputs (n, ...) to (n, k)."""
    return keras.ops.reshape(outputs, (keras.ops.shape(outputs)[0], -1))


class _TensorFlowSignals:
    """TensorFlow graph of one forward pass, and of one backward pass for each linear combination of the outputs.

    Args:
        owner: The `Signals` object that contains the model. Tracing the model sets `owner.calls`, the layers in the
            order in which the model calls them.
    """

    def __init__(self, owner: Signals):
        import tensorflow as tf

        self._tf, self._owner = tf, owner
        self._graphs: dict[int, Any] = {}

    def __call__(self, x: np.ndarray, cotangents: np.ndarray) -> tuple[list[Any], list[Any]]:
        tf, count = self._tf, len(cotangents)
        if count not in self._graphs:
            signature = (tf.TensorSpec((None, *x.shape[1:]), x.dtype), tf.TensorSpec(cotangents.shape))
            self._graphs[count] = tf.function(self._traced, input_signature=signature)
        inputs, signals = self._graphs[count](tf.constant(x), tf.constant(cotangents))
        return inputs, [np.moveaxis(np.asarray(one), -2, 1) for one in signals]

    def _traced(self, x: Any, cotangents: Any) -> tuple[list[Any], list[Any]]:
        tf = self._tf

        def watched(site: Any) -> Any:
            tape.watch(site)
            return site

        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            with tapped(self._owner.model, watched) as calls:
                outputs = flat(self._owner.model(x, training=False))
            sums = [tf.reduce_sum(outputs * one) for one in tf.unstack(cotangents)]
        sites = [call.site for call in calls]
        derivatives = [tape.gradient(one, sites, unconnected_gradients="zero") for one in sums]
        self._owner.calls = [Call(call.layer, call.kind, None, None) for call in calls]
        return [call.inputs for call in calls], [tf.stack(one, axis=-2) for one in zip(*derivatives, strict=True)]


class _JaxSignals:
    """JAX program of the forward pass and of one backward pass for each combination of outputs.

    A perturbation of 0 is added to the site of each layer, and the outputs are differentiated with respect to these
    perturbations in reverse mode.

    Args:
        owner: The `Signals` object that contains the model. Its list `calls` is set when the model is traced.
    """

    def __init__(self, owner: Signals):
        import jax

        self._jax, self._owner = jax, owner
        self._program = jax.jit(self._traced)

    def __call__(self, x: np.ndarray, cotangents: np.ndarray) -> tuple[list[Any], list[Any]]:
        variables = self._owner.model.variables
        return self._program([variable.value for variable in variables], x, cotangents)

    def _traced(self, values: Sequence[Any], x: Any, cotangents: Any) -> tuple[list[Any], list[Any]]:
        jax, model = self._jax, self._owner.model
        shapes: list[Any] = []

        def sized(site: Any) -> Any:
            shapes.append(jax.ShapeDtypeStruct(site.shape, site.dtype))
            return site

        def forward(perturbations: Sequence[Any]) -> tuple[Any, list[Any]]:
            left = iter(perturbations)
            state = zip(model.variables, values, strict=True)
            with keras.StatelessScope(state_mapping=state), tapped(model, lambda site: site + next(left)) as calls:
                outputs = flat(model(x, training=False))
            self._owner.calls = [Call(call.layer, call.kind, None, None) for call in calls]
            return outputs, [call.inputs for call in calls]

        def shaped() -> Any:
            with keras.StatelessScope(state_mapping=zip(model.variables, values, strict=True)), tapped(model, sized):
                return model(x, training=False)

        jax.eval_shape(shaped)
        zeros = [jax.numpy.zeros(one.shape, one.dtype) for one in shapes]
        outputs, pullback, inputs = jax.vjp(forward, zeros, has_aux=True)
        signals = jax.vmap(lambda one: pullback(jax.numpy.broadcast_to(one, outputs.shape))[0], out_axes=1)(cotangents)
        return inputs, list(signals)


BACKENDS = {"tensorflow": _TensorFlowSignals, "jax": _JaxSignals}


@contextlib.contextmanager
def in_float32(model: keras.Model) -> Iterator[None]:
    """Make the layers of a model compute in float32 within a `with` block, whatever their precision policy is."""
    layers = [layer for layer in model._flatten_layers(include_self=True) if layer.compute_dtype != "float32"]
    policies = [(layer, layer.dtype_policy) for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


def gradients(
    model: keras.Model, x: np.ndarray, variables: Sequence[Any], cotangents: np.ndarray
) -> list[Float32[np.ndarray, "m ..."] | None]:
    """Return the derivatives of m linear combinations of the outputs for one row, by automatic differentiation.

    Args:
        model: Keras model.
        x: The row (1, ...).
        variables: Variables that the derivatives are taken with respect to.
        cotangents: Coefficients (m, k) of the combinations.

    Returns:
        One array `(m, *shape)` for each variable; None (on TensorFlow) or zeros (on JAX) for a variable that the
        outputs do not depend on.
    """
    return ROW_BACKENDS[keras.backend.backend()](model, x, variables, cotangents)


def _row_tensorflow(model: keras.Model, x: np.ndarray, variables: Sequence[Any], cotangents: np.ndarray) -> list[Any]:
    import tensorflow as tf

    values = [variable.value for variable in variables]
    with in_float32(model), tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(values)
        outputs = flat(model(x, training=False))
        sums = [tf.reduce_sum(outputs * one) for one in cotangents]
    found = [[_dense(one) for one in tape.gradient(total, values)] for total in sums]
    return [None if columns[0] is None else np.stack(columns) for columns in zip(*found, strict=True)]


def _dense(gradient: Any) -> np.ndarray | None:
    import tensorflow as tf

    return None if gradient is None else tf.convert_to_tensor(gradient).numpy()


def _row_jax(model: keras.Model, x: np.ndarray, variables: Sequence[Any], cotangents: np.ndarray) -> list[Any]:
    import jax

    def forward(values: Sequence[Any]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return flat(model(x, training=False))

    with in_float32(model):
        outputs, pullback = jax.vjp(forward, [variable.value for variable in variables])
        found = [pullback(jax.numpy.broadcast_to(one, outputs.shape))[0] for one in cotangents]
    return [np.stack([np.asarray(one) for one in columns]) for columns in zip(*found, strict=True)]


ROW_BACKENDS = {"tensorflow": _row_tensorflow, "jax": _row_jax}
