"""Products with the Jacobian J(x) of a Keras model's outputs with respect to its variables, at its present weights.

`JacobianProducts` computes J v and Jᵀu for NumPy arrays of rows. `first_order` computes J v for tensors of the backend,
for use in the call of a layer. J is never stored.

On TensorFlow, J v costs two backward passes: Jᵀu is linear in u, and the second pass differentiates vᵀJᵀu with respect
to u. On JAX, J v costs one forward-mode derivative. Jᵀu costs one backward pass. All products are in float32 and
inference mode.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from linearized.base.shapes import Float, Float64
from linearized.tangents.signals import flat, in_float32

ROWS = 256  # rows per pass
TRACED = 64  # number of rows from which the mean trace is estimated


class JacobianProducts:
    """Products J v and Jᵀu with the Jacobian of a Keras model, computed in blocks of rows, one column at a time.

    J contains the derivatives of the k outputs for each of n rows with respect to the p entries of the variables.

    Args:
        model: Keras model with one input and one output; outputs with several axes are flattened to k.
        variables: Variables that J is taken with respect to. Their p entries, flattened one variable after the other,
            are the columns of J.
    """

    def __init__(self, model: keras.Model, variables: Sequence[Any]):
        self.model, self.variables = model, list(variables)
        self.sizes = [int(np.prod(variable.shape)) for variable in self.variables]
        self.params = sum(self.sizes)
        self._program = BACKENDS[keras.backend.backend()](model, self.variables)

    def outputs(self, x: np.ndarray) -> Float64[np.ndarray, "n k"]:
        """Return the model's outputs in inference mode for rows x (n, ...)."""
        with in_float32(self.model):
            parts = [keras.ops.convert_to_numpy(flat(self.model(x[rows], training=False))) for rows in _blocks(len(x))]
        return np.concatenate(parts).astype(np.float64)

    def forward(self, x: np.ndarray, v: Float[np.ndarray, "p c"]) -> Float64[np.ndarray, "n k c"]:
        """Return J v for each of the c columns of v.

        A column costs a forward and two backward passes on TensorFlow, and one forward-mode derivative on JAX.

        Args:
            x: Rows (n, ...) at which J is taken.
            v: Directions (p, c), with one row for each of the p entries of the variables.
        """
        found = []
        with in_float32(self.model):
            for column in np.asarray(v, np.float32).T:
                direction = self.parts(column)
                blocks = [np.asarray(self._program.forward(x[rows], direction)) for rows in _blocks(len(x))]
                found.append(np.concatenate(blocks).astype(np.float64))
        return np.stack(found, axis=-1)

    def adjoint(self, x: np.ndarray, u: Float[np.ndarray, "n k c"]) -> Float64[np.ndarray, "p c"]:
        """Return Jᵀu for each of the c columns of u, summed over all rows.

        A column costs a forward and a backward pass. Blocks of 256 rows are differentiated in float32, and the results
        of the blocks are summed in float64.

        Args:
            x: Rows (n, ...) at which J is taken.
            u: Coefficients (n, k, c) of the k outputs for each of the n rows.
        """
        total = np.zeros((self.params, u.shape[2]))
        with in_float32(self.model):
            for rows in _blocks(len(x)):
                for place, cotangents in enumerate(np.moveaxis(np.asarray(u[rows], np.float32), 2, 0)):
                    parts = self._program.adjoint(x[rows], np.ascontiguousarray(cotangents))
                    total[:, place] += np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])
        return total

    def mean_trace(self, x: np.ndarray) -> float:
        """Estimate the mean over rows x (n, ...) of Σ_k ‖∂f_k(x)/∂θ‖², for the outputs f_k and the variables θ.

        This is the mean diagonal of the tangent kernel with outputs="trace", which is tr(J Jᵀ)/n. At most 64 rows,
        evenly spaced, are used. The estimate for a row is ‖Jᵀs‖², where s contains a random sign ±1 for each output,
        from a fixed random-number seed. This estimate is unbiased, and exact for a single output. Each of these rows
        costs a forward and a backward pass.
        """
        rows = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), TRACED)).astype(int))]
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(len(rows), self.outputs(rows[:1]).shape[1], 1))
        squares = [np.square(self.adjoint(row[None], sign[None])).sum() for row, sign in zip(rows, signs, strict=True)]
        return float(np.mean(squares))

    def parts(self, column: Float[np.ndarray, " p"]) -> list[np.ndarray]:
        """Split a column of p numbers into one array per variable, in the shape of the variable."""
        pieces = np.split(column, np.cumsum(self.sizes)[:-1])
        return [piece.reshape(variable.shape) for piece, variable in zip(pieces, self.variables, strict=True)]


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, n, ROWS)]


class _TensorFlowProducts:
    def __init__(self, model: keras.Model, variables: list[Any]):
        import tensorflow as tf

        self._tf, self._model, self._variables = tf, model, variables
        self._graphs: dict[tuple[str, int | None], Any] = {}

    def forward(self, x: np.ndarray, direction: list[np.ndarray]) -> Any:
        specs = [self._tf.TensorSpec(variable.shape) for variable in self._variables]
        return self._compiled("forward", self._forward, x, specs)(x, direction)

    def adjoint(self, x: np.ndarray, u: np.ndarray) -> list[Any]:
        return self._compiled("adjoint", self._adjoint, x, self._tf.TensorSpec((None, u.shape[1])))(x, u)

    def _compiled(self, name: str, function: Any, x: np.ndarray, other: Any) -> Any:
        count = len(x) if len(x) == ROWS else None  # faster: J v of a CNN took 3.2 forward passes, not 4.3
        if (name, count) not in self._graphs:
            rows = self._tf.TensorSpec((count, *x.shape[1:]), x.dtype)
            self._graphs[name, count] = self._tf.function(function, input_signature=(rows, other))
        return self._graphs[name, count]

    def _adjoint(self, x: Any, u: Any) -> list[Any]:
        values = [variable.value for variable in self._variables]
        with self._tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            outputs = flat(self._model(x, training=False))
        found = tape.gradient(outputs, values, output_gradients=u, unconnected_gradients="zero")
        return [self._tf.convert_to_tensor(one) for one in found]

    def _forward(self, x: Any, direction: list[Any]) -> Any:
        return flat(first_order(self._model, self._variables, direction, x)[1])


class _JaxProducts:
    def __init__(self, model: keras.Model, variables: list[Any]):
        import jax

        self._jax, self._model, self._variables = jax, model, variables
        fixed = {id(variable) for variable in variables}
        self._others = [variable for variable in model.variables if id(variable) not in fixed]
        self.forward = self._with_values(jax.jit(self._forward))
        self.adjoint = self._with_values(jax.jit(self._adjoint))

    def _with_values(self, program: Any) -> Any:
        def call(x: np.ndarray, other: Any) -> Any:
            values = [[variable.value for variable in own] for own in (self._variables, self._others)]
            return program(*values, x, other)

        return call

    def _outputs(self, others: list[Any], x: Any) -> Any:
        def outputs(values: list[Any]) -> Any:
            pairs = [*zip(self._variables, values, strict=True), *zip(self._others, others, strict=True)]
            with keras.StatelessScope(state_mapping=pairs):
                return flat(self._model(x, training=False))

        return outputs

    def _forward(self, values: list[Any], others: list[Any], x: Any, direction: list[Any]) -> Any:
        return self._jax.jvp(self._outputs(others, x), (values,), (direction,))[1]

    def _adjoint(self, values: list[Any], others: list[Any], x: Any, u: Any) -> list[Any]:
        return self._jax.vjp(self._outputs(others, x), values)[1](u)[0]


BACKENDS = {"tensorflow": _TensorFlowProducts, "jax": _JaxProducts}


def first_order(model: keras.Model, variables: Sequence[Any], direction: Sequence[Any], x: Any) -> tuple[Any, Any]:
    """Return f(x) and J(x) v of a Keras model f in inference mode, two tensors in the shape of the outputs.

    It costs a forward and two backward passes on TensorFlow, and two forward passes on JAX.

    Args:
        model: Keras model whose layers compute in float32.
        variables: Variables that J is taken with respect to.
        direction: v, one tensor or Keras variable in the shape of each variable. The results can be differentiated with
            respect to v.
        x: Rows, a tensor of the backend.
    """
    return FIRST_ORDER[keras.backend.backend()](model, variables, direction, x)


def _first_order_tensorflow(model: Any, variables: Sequence[Any], direction: Sequence[Any], x: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(values)
            outputs = model(x, training=False)
        u = tf.zeros_like(outputs)
        outer.watch(u)
        pulled = inner.gradient(outputs, values, output_gradients=u, unconnected_gradients="zero")
        pairs = zip(pulled, direction, strict=True)
        total = sum(tf.reduce_sum(tf.convert_to_tensor(one) * tf.convert_to_tensor(part)) for one, part in pairs)
    return outputs, outer.gradient(total, u, unconnected_gradients="zero")


def _first_order_jax(model: Any, variables: Sequence[Any], direction: Sequence[Any], x: Any) -> tuple[Any, Any]:
    import jax

    taken = {id(variable) for variable in variables}
    others = [(one, one.value) for one in model.variables if id(one) not in taken]

    def outputs(values: list[Any]) -> Any:
        with keras.StatelessScope(state_mapping=[*zip(variables, values, strict=True), *others]):
            return model(x, training=False)

    values = [variable.value for variable in variables]
    return jax.jvp(outputs, (values,), ([jax.numpy.asarray(part) for part in direction],))


FIRST_ORDER = {"tensorflow": _first_order_tensorflow, "jax": _first_order_jax}
