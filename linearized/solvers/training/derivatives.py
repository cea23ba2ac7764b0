"""Training objective with gradient and Hessian-vector products in float64, for functional Keras models on TensorFlow.

Newton-CG minimises the objective. Derivatives are computed by forward-over-reverse differentiation, for some rows at a
time, on a copy of the model that computes in float64.
"""

import keras
import numpy as np

from linearized.base.shapes import Float64
from linearized.data.dataset import Dataset
from linearized.solvers.training.objectives import row_losses


class Objective:
    """The mean loss of the train rows plus the model's penalty, as a function of all trained parameters in one vector.

    Args:
        model: Functional Keras model; it is changed only by `write_back`.
        dataset: Dataset whose train split is used.
        kind: Formula of the loss: "square", "softmax" or "sigmoid", as `objectives.loss_kind` returns it.
        max_batch_size: Largest number of rows that are differentiated together.
    """

    def __init__(self, model: keras.Model, dataset: Dataset, kind: str, max_batch_size: int):
        import tensorflow as tf  # imported here, so that the module can be imported with other backends

        self.tf, self.model, self.copy, self.kind = tf, model, _in_float64(model), kind
        self.x, self.y = dataset.train.x, dataset.targets(dataset.train)
        self.size = min(max_batch_size, len(self.x))
        self.variables = [variable.value for variable in self.copy.trainable_variables]
        self.shapes = [tuple(variable.shape) for variable in self.variables]
        self.places = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        self.remembered: tuple[np.ndarray, float, np.ndarray] | None = None
        self.point: np.ndarray | None = None
        rows = tf.TensorSpec((None, self.x.shape[1]), tf.float32), tf.TensorSpec((None, self.y.shape[1]), tf.float32)
        directions = [tf.TensorSpec(shape, tf.float64) for shape in self.shapes]
        self._rows_gradient = tf.function(self._rows_gradient, input_signature=rows)
        self._rows_product = tf.function(self._rows_product, input_signature=(*rows, directions))

    def start(self) -> Float64[np.ndarray, " p"]:
        """Return the parameters of the last evaluation as one vector; before any evaluation, those of the model."""
        return np.concatenate([variable.numpy().ravel() for variable in self.variables])

    def __call__(self, x: Float64[np.ndarray, " p"]) -> tuple[float, Float64[np.ndarray, " p"]]:
        """Return the objective and its gradient at the parameters x.

        If the objective is not finite, infinity and a gradient of 0 are returned, so that the trust region rejects the
        step.
        """
        if self.remembered is None or not np.array_equal(self.remembered[0], x):
            self._move(x)
            value, gradient = self._penalty_gradient()
            for rows in self._chunks():
                part, slope = self._rows_gradient(*rows)
                value, gradient = value + float(part), gradient + self._flat(slope)
            if not np.isfinite(value):
                value, gradient = np.inf, np.zeros_like(x)
            self.remembered = (x.copy(), float(value), gradient)
        return self.remembered[1], self.remembered[2].copy()

    def hessian_product(
        self, x: Float64[np.ndarray, " p"], direction: Float64[np.ndarray, " p"]
    ) -> Float64[np.ndarray, " p"]:
        """Return the objective's Hessian at the parameters x, multiplied by a direction, in one pass over the rows."""
        self._move(x)
        parts = [self.tf.constant(part) for part in self._split(direction)]
        product = self._penalty_product(parts)
        for rows in self._chunks():
            product += self._flat(self._rows_product(*rows, parts))
        return product

    def write_back(self, x: Float64[np.ndarray, " p"]) -> None:
        """Assign the parameters x to the model itself."""
        for variable, part in zip(self.model.trainable_variables, self._split(x), strict=True):
            variable.assign(part)

    def _chunks(self):
        for start in range(0, len(self.x), self.size):
            rows = slice(start, start + self.size)
            yield self.tf.constant(self.x[rows]), self.tf.constant(self.y[rows])

    def _mean(self, x, y):
        rows = row_losses(self.kind, y, self.copy(x, training=False))
        return self.tf.reduce_sum(rows) / len(self.x)

    def _penalty(self):
        return self.tf.add_n(self.copy.losses)

    def _gradient(self, function, *arguments):
        with self.tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.variables)
            value = function(*arguments)
        return value, tape.gradient(value, self.variables, unconnected_gradients="zero")

    def _product(self, directions, function, *arguments):
        with self.tf.autodiff.ForwardAccumulator(self.variables, directions) as forward:
            _, gradients = self._gradient(function, *arguments)
        return [forward.jvp(gradient, unconnected_gradients="zero") for gradient in gradients]

    def _rows_gradient(self, x, y):
        return self._gradient(self._mean, x, y)

    def _rows_product(self, x, y, directions):
        return self._product(directions, self._mean, x, y)

    def _penalty_gradient(self) -> tuple[float, np.ndarray]:
        if not self.copy.losses:
            return 0.0, np.zeros(self.places[-1])
        value, gradients = self._gradient(self._penalty)
        return float(value), self._flat(gradients)

    def _penalty_product(self, directions) -> np.ndarray:
        if not self.copy.losses:
            return np.zeros(self.places[-1])
        return self._flat(self._product(directions, self._penalty))

    def _move(self, x: np.ndarray) -> None:
        if self.point is None or not np.array_equal(self.point, x):
            for variable, part in zip(self.variables, self._split(x), strict=True):
                variable.assign(part)
            self.point = x.copy()

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(shape) for part, shape in zip(np.split(x, self.places[:-1]), self.shapes, strict=True)]

    def _flat(self, parts) -> np.ndarray:
        return np.concatenate([part.numpy().ravel() for part in parts])


def _in_float64(model: keras.Model) -> keras.Model:
    """Return a copy of a functional model that computes in float64, with the same weights."""

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float64"})

    copy = keras.models.clone_model(model, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy
