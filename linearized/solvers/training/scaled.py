"""Momentum SGD, Adam and AdamW with a scale for the gradient of each variable, in the conventions of TensorFlow 1.

The gradient of each variable is multiplied by the variable's scale before the optimizer uses it. Layers declare these
scales, such as the mean-field layers (see `linearized.solvers.training.declared`); the scales of other layers are 1.
The programs of Ghorbani et al. (arXiv 2006.13409) differ from Keras in the rule of momentum (`ScaledSGD`) and in Adam's
ε. The programs use 1e-8, as TensorFlow 1 and PyTorch do, and Keras uses 1e-7. The defaults here are those of the
programs.
"""

import keras

MOMENTUM_RULES = ("classical", "nesterov", "keras")
EPSILON = 1e-8


class _Scaled(keras.optimizers.Optimizer):
    """Base class of the optimizers of this module, which scales the gradients and adds an L2 decay.

    Args:
        learning_rate: Learning rate, a number or a schedule of Keras.
        scales: Factors of the gradients, one number per trainable variable in the order of the gradients; None: 1.
        l2_decay: λ ≥ 0. Scaled gradients g become g + λ w before the step, for every trained variable w, like
            `weight_decay` of PyTorch's SGD and Adam. In Adam, λ w is thus divided by the root of the mean squared
            gradient, in contrast to AdamW's decay.
    """

    def __init__(self, learning_rate=0.001, scales=None, l2_decay=0.0, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        if not l2_decay >= 0:
            raise ValueError(f"`l2_decay` must not be negative. Received: l2_decay={l2_decay}.")
        self.l2_decay = float(l2_decay)
        self.scales = None if scales is None else [float(scale) for scale in scales]

    def apply(self, grads, trainable_variables=None):
        """Scale the gradients, add the L2 decay, and update the variables by one step of the optimizer.

        Args:
            grads: One gradient, or None, per trainable variable.
            trainable_variables: The variables; None: those that the optimizer was built with.
        """
        grads = list(grads)
        if self.scales is not None:
            if len(grads) != len(self.scales):
                raise ValueError(f"Expected {len(self.scales)} gradients, one a scale. Received: {len(grads)}.")
            grads = [
                gradient if gradient is None or scale == 1 else gradient * scale
                for gradient, scale in zip(grads, self.scales, strict=True)
            ]
        if self.l2_decay:
            variables = self._trainable_variables if trainable_variables is None else trainable_variables
            grads = [
                gradient if gradient is None else gradient + self.l2_decay * keras.ops.cast(variable, gradient.dtype)
                for gradient, variable in zip(grads, variables, strict=True)
            ]
        return super().apply(grads, trainable_variables)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "scales": self.scales, "l2_decay": self.l2_decay}


@keras.saving.register_keras_serializable("linearized")
class ScaledSGD(_Scaled, keras.optimizers.SGD):
    """SGD with momentum m, by one of three rules.

    | `rule`      | step                                       | used by                                       |
    |-------------|--------------------------------------------|-----------------------------------------------|
    | "classical" | v ← m v + g, w ← w - η v                   | TensorFlow 1, PyTorch, arXiv 2006.13409       |
    | "nesterov"  | v ← m v + g, w ← w - η (g + m v)           | random features in arXiv 2006.13409           |
    | "keras"     | v ← m v - η g, w ← w + v                   | Keras                                         |

    v is the velocity, w the variable, g its gradient and η the learning rate. "classical" and "keras" are the same at a
    constant rate; for m = 0 all three are the same. In an epoch of rate 0 "classical" and "nesterov" accumulate
    momentum, and "keras" does not. After a change of the rate, the velocity of "keras" still contains steps at the old
    rate.

    Args:
        learning_rate: Learning rate η.
        momentum: m, in [0, 1].
        rule: Name of the rule, see the table.
        scales: Factors of the gradients g, one number per trainable variable; None: 1.
        l2_decay: λ ≥ 0. Scaled gradients g become g + λ w before the step.
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, rule="classical", **kwargs):
        if rule not in MOMENTUM_RULES:
            raise ValueError(f"`rule` must be one of {', '.join(MOMENTUM_RULES)}. Received: rule={rule!r}.")
        kwargs.pop("nesterov", None)  # Keras writes its own flag into configurations
        super().__init__(learning_rate=learning_rate, momentum=momentum, **kwargs)
        self.rule = rule

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable by the momentum rule; Keras calls this in each step.

        Args:
            gradient: Gradient g of the variable, scaled and with the decay.
            variable: Variable w, which is changed.
            learning_rate: η.
        """
        if self.rule == "keras" or self.momentum == 0:
            super().update_step(gradient, variable, learning_rate)
            return
        rate = keras.ops.cast(learning_rate, variable.dtype)
        gradient = keras.ops.cast(gradient, variable.dtype)
        momentum = keras.ops.cast(self.momentum, variable.dtype)
        velocity = self.momentums[self._get_variable_index(variable)]
        new = momentum * velocity + gradient
        self.assign(velocity, new)
        self.assign_sub(variable, rate * (gradient + momentum * new if self.rule == "nesterov" else new))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "rule": self.rule}


@keras.saving.register_keras_serializable("linearized")
class ScaledAdam(_Scaled, keras.optimizers.Adam):
    """The optimizer `keras.optimizers.Adam` with gradient scales, an L2 decay, and ε = 1e-8 instead of 1e-7.

    In a mean-field network of N units gradients are O(1/N). Without the scales, they could be smaller than Adam's ε.

    Args:
        learning_rate: Learning rate.
        epsilon: ε, which is added to the root of the mean squared gradient.
        kwargs: Further arguments of `keras.optimizers.Adam`, and two of this package: `scales`, factors of the
            gradients, one number per trainable variable (None: 1); and `l2_decay`, λ ≥ 0, with which gradients g become
            g + λ w before the step.
    """

    def __init__(self, learning_rate=0.001, epsilon=EPSILON, **kwargs):
        super().__init__(learning_rate=learning_rate, epsilon=epsilon, **kwargs)


@keras.saving.register_keras_serializable("linearized")
class ScaledAdamW(_Scaled, keras.optimizers.AdamW):
    """The optimizer `keras.optimizers.AdamW` with gradient scales, and ε = 1e-8 instead of 1e-7.

    The scales multiply the gradients only. AdamW's weight decay, which subtracts a multiple of the weight itself in
    each step, is not scaled.

    Args:
        learning_rate: Learning rate.
        epsilon: ε, which is added to the root of the mean squared gradient.
        kwargs: Further arguments of `keras.optimizers.AdamW`, such as `weight_decay`, and two of this package:
            `scales`, factors of the gradients, one number per trainable variable (None: 1); and `l2_decay`, λ ≥ 0, with
            which gradients g become g + λ w before the step.
    """

    def __init__(self, learning_rate=0.001, epsilon=EPSILON, **kwargs):
        super().__init__(learning_rate=learning_rate, epsilon=epsilon, **kwargs)
