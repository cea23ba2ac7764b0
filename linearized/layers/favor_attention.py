"""Attention in linear time by positive random features of the softmax kernel, with a shift that is fitted to the data.

This is FAVOR++ (Likhosherstov et al., "Chefs' random tables", NeurIPS 2022), as in the Transformers of "Scalable Neural
Network Kernels" (ICLR 2024). For a query q and a key k of length d and random projections g ~ N(0, I),

    exp(q·k) = E φ(q)φ(k)  with  φ(x) = (1+4M)^(d/4) exp(√(1+4M) g·x - ‖x‖²/2 - M‖g‖²) > 0

for every M >= 0. The shift M changes the variance of the estimate, not its mean; `best_shift` computes the M of the
smallest variance in closed form. The features are those of `Exponentials([1.0], [1.0])`
(`linearized.layers.snnk.exponentials`) with the shift M.
"""

import keras
import numpy as np
from keras import ops

from linearized.layers.shapes import check_shape
from linearized.layers.snnk.features import draw


def best_shift(square: float, dim: int):
    """Return the shift M with the smallest variance of the estimate φ(q)φ(k) of exp(q·k), see the module's docstring.

    The second moment of one estimate is ((1+4M)²/(1+8M))^(d/2) exp(2‖q+k‖²(1+4M)/(1+8M) - ‖q‖² - ‖k‖²). Its derivative
    with respect to M is a quadratic polynomial divided by a positive function of M, so its root has a closed form.

    Args:
        square: ‖q + k‖² > 0, a number or a tensor.
        dim: d, the length of q and k.

    Returns:
        M > 0, a number or a tensor like `square`.
    """
    total = 2 * square + dim
    ratio = ((total**2 + 8 * dim * square) ** 0.5 - total) / (4 * square)
    return (1 / ratio - 1) / 8


@keras.saving.register_keras_serializable("linearized")
class FavorAttention(keras.layers.Layer):
    """Layer that estimates the attention softmax(q kᵀ/√d) v in linear time, by m positive random features (FAVOR++).

    Queries and keys are divided by d^¼. A feature of a scaled query or key x is exp(√(1+4M) g·x - ‖x‖²/2 - M‖g‖²), with
    a fixed random projection g ~ N(0, I) and a shift M (Likhosherstov et al., NeurIPS 2022). The layer has no weights
    to train. It computes in float32, and its outputs have the compute data type.

    Args:
        num_features: m, the number of features. The relative variance of an attention weight falls like 1/m.
        shift: M, not negative; 0 gives the features of FAVOR+. None: as in the paper, M is computed for each sequence
            and each head. It minimises the variance of the estimate at the mean of ‖q + k‖² over all pairs of a query
            and a key.
        orthogonal: Whether projections are orthogonal to each other in blocks of d; otherwise all are independent.
        lengths: Lengths of orthogonal projections: "chi", so that each of them is N(0, I), or "fixed" at √d.
        seed: Random-number seed of the projections.

    Input shape: `(n, length, d)`, or `(n, length, heads, d)` for several heads, for the query, the key and the value;
    the lengths of queries and keys may differ. See `call`.
    Output shape: the shape of the query, with the last axis of the value. Costs O(n · length · heads · m · d).
    """

    def __init__(self, num_features=64, shift=None, orthogonal=True, lengths="chi", seed=0, **kwargs):
        super().__init__(**kwargs)
        if num_features < 1 or (shift is not None and not 0 <= shift < np.inf):
            raise ValueError("`num_features` must be at least 1 and `shift` None or not negative. "
                             f"Received: num_features={num_features}, shift={shift}.")  # fmt: skip
        self.num_features, self.shift = int(num_features), None if shift is None else float(shift)
        self.orthogonal, self.lengths, self.seed = bool(orthogonal), lengths, int(seed)

    def build(self, query_shape):
        """Draw the random projections for queries whose last axis has the length d."""
        drawn = draw(query_shape[-1], self.num_features, [self.seed], self.orthogonal, self.lengths)

        def initializer(shape, dtype=None):
            return ops.convert_to_tensor(drawn, dtype=dtype)

        self.projection = self.add_weight(
            name="projection", shape=drawn.shape, initializer=initializer, trainable=False, autocast=False
        )
        self.built = True

    def call(self, query, key=None, value=None, key_mask=None):
        """Return the estimate of softmax(q kᵀ/√d) v, the averages of the values with the attention weights.

        Args:
            query: Queries, `(n, length, d)` or `(n, length, heads, d)`.
            key: Keys, with the same number of axes as the queries; None: the queries.
            value: Values, one for each key; None: the keys.
            key_mask: `(n, keys)`, true for the keys that take part; None: all do.

        Returns:
            Tensor in the compute data type, in the shape of the query with the last axis of the value.
        """
        key = query if key is None else key
        value = key if value is None else value
        for name, x in (("query", query), ("key", key)):
            check_shape(self, x.shape, (..., self.projection.shape[0]), name)
        heads = len(query.shape) == 4
        q, k, v = (ops.cast(x if heads else x[:, :, None], "float32") for x in (query, key, value))
        scale = q.shape[-1] ** -0.25
        q, k = q * scale, k * scale
        shift = self._shift(q, k)
        phi, psi = self._features(q, shift, axis=-1), self._features(k, shift, axis=(1, -1))
        if key_mask is not None:
            psi = psi * ops.cast(key_mask, "float32")[:, :, None, None]
        summed = ops.einsum("nkhm,nkhd->nhmd", psi, v)
        weights = ops.einsum("nqhm,nhm->nqh", phi, ops.sum(psi, axis=1))
        found = ops.einsum("nqhm,nhmd->nqhd", phi, summed) / ops.maximum(weights, 1e-30)[..., None]
        return ops.cast(found if heads else found[:, :, 0], self.compute_dtype)

    def _shift(self, q, k):
        """Return the shift M of the features: the layer's number, or M for each sequence and head, (n, 1, heads, 1).

        The shift is not differentiated.

        Args:
            q: Queries (n, length, heads, d), divided by d^¼.
            k: Keys (n, length, heads, d), divided by d^¼.
        """
        if self.shift is not None:
            return self.shift
        squares = [ops.mean(ops.sum(ops.square(x), axis=-1), axis=1) for x in (q, k)]
        product = ops.sum(ops.mean(q, axis=1) * ops.mean(k, axis=1), axis=-1)
        square = ops.maximum(squares[0] + squares[1] + 2 * product, 1e-6)
        return ops.stop_gradient(best_shift(square, q.shape[-1]))[:, None, :, None]

    def _features(self, x, shift, axis):
        """Return the random features of queries or keys, (n, length, heads, m), divided by their largest values.

        Each feature is divided by the maximum over the axes `axis`, so that no feature overflows. The constant factor
        (1+4M)^(d/4) is left out. All these factors cancel when the attention weights are normalised.

        Args:
            x: Queries or keys (n, length, heads, d), divided by d^¼.
            shift: Shift M of the features.
            axis: Axes of the maximum: the features for queries, the positions and the features for keys.
        """
        projection = ops.convert_to_tensor(self.projection)
        exponent = (1 + 4 * shift) ** 0.5 * ops.matmul(x, projection) - shift * ops.sum(ops.square(projection), axis=0)
        exponent = exponent - ops.sum(ops.square(x), axis=-1, keepdims=True) / 2
        return ops.exp(exponent - ops.stop_gradient(ops.max(exponent, axis=axis, keepdims=True)))

    def compute_output_shape(self, query_shape, key_shape=None, value_shape=None, key_mask_shape=None):
        """Return the output shape for an input shape."""
        last = value_shape or key_shape or query_shape
        return (*query_shape[:-1], last[-1])

    def get_config(self):
        """Return the configuration, a dictionary from which `from_config` creates a new object of this class."""
        names = ("num_features", "shift", "orthogonal", "lengths", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
