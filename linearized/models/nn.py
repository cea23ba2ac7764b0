"""NN: a fully connected network of any depth, in the mean-field scaling of arXiv 2006.13409 or another scaling.

Penalty: λ‖W₁‖² + (λ/√N) Σ‖W_l‖², with the weights W₁ of the first hidden layer, the weights W_l of the deeper hidden
layers and N units per layer; biases and the readout have no penalty. Networks in other parametrizations have no biases.
Their penalty is Σ (λ/r_l)‖W_l‖² over all hidden layers l, where r_l is the factor of the layer's learning rate, see
`linearized.models.parametrization`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.models.declaration import Declaration
from linearized.models.parametrization import Scaling, check_pairs
from linearized.settings.model_settings import PARAMETRIZATION, ParametrizationSettings
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras

DEEPEST = 400  # largest number of layers, dropout layers included


def _parameters(config: Any, dim: int, outputs: int) -> int:
    return config.num_units * (dim + (config.num_layers - 1) * config.num_units + outputs)


def _check(config: Any) -> None:
    """Raise `UserError` for a network that is too deep for Keras, and for an odd number of units with --output_scale.

    Args:
        config: Settings num_layers, drop_rate, num_units and output_scale.
    """
    layers = config.num_layers * (2 if config.drop_rate else 1)
    if layers > DEEPEST:
        raise UserError(
            f"Keras builds networks by recursion, up to --num_layers={DEEPEST} (half of it with --drop_rate). "
            f"Received: --num_layers={config.num_layers}."
        )
    check_pairs(config)


DECLARED = Declaration(
    reads("num_units", "num_layers", "activation", "drop_rate", "seed") | PARAMETRIZATION,
    groups=(ParametrizationSettings,), optimizer="sgd", faster_on_jax=True, parameters=_parameters,
    hidden_layers=lambda config: config.num_layers, budget={"learning_rate": 0.01}, check=_check,
    infinite=lambda config: {"kernel": "NTK", "num_layers": config.num_layers, "activation": config.activation},
)  # fmt: skip


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled fully connected network from rows (n, d) to outputs (n, k).

    Dropout follows every hidden layer's activation.

    Args:
        config: Settings num_units (N, of every hidden layer), num_layers (number of hidden layers), activation,
            drop_rate, seed, parametrization and output_scale.
        dataset: Dataset that determines the length of a row d and the number of outputs k.
        ridge: λ of the penalty that the module's docstring states.
    """
    import keras

    from linearized.layers.mean_field import MeanFieldDense
    from linearized.models.common import penalty

    scaling = Scaling(config)
    if not scaling.published:
        return _scaled(config, dataset, ridge, scaling)
    x = inputs = keras.Input((dataset.dim,), name="x")
    for layer in range(config.num_layers):
        place, strength = ("first", ridge) if layer == 0 else ("deep", ridge / np.sqrt(config.num_units))
        x = MeanFieldDense(
            config.num_units,
            place,
            seed=(config.seed, layer),
            kernel_regularizer=penalty(strength),
            activation=config.activation,
            name=f"hidden_{layer + 1}",
        )(x)
        if config.drop_rate:
            # The published dropout precedes the division by N; the two operations commute.
            x = keras.layers.Dropout(config.drop_rate, name=f"dropout_{layer + 1}")(x)
    readout = MeanFieldDense(dataset.num_outputs, "readout", seed=(config.seed, config.num_layers), name="readout")
    return keras.Model(inputs, readout(x), name="NN")


def _scaled(config: Any, dataset: Dataset, ridge: float, scaling: Scaling) -> "keras.Model":
    """Return the network in another parametrization than "published", see `linearized.models.parametrization`.

    Args:
        config: Settings as for `build`.
        dataset: Dataset as for `build`.
        ridge: λ as for `build`.
        scaling: The parametrization, which adds the layers.
    """
    import keras

    from linearized.layers.rated import NamedFunction, RatedDense

    x = inputs = keras.Input((dataset.dim,), name="x")
    for layer in range(config.num_layers):
        x = scaling.layer(
            x, RatedDense, "hidden" if layer else "input", x.shape[-1], config.num_units, number=layer, ridge=ridge,
            paired="outputs" if layer == config.num_layers - 1 else "", units=config.num_units,
            activation=NamedFunction(config.activation), name=f"hidden_{layer + 1}",
        )  # fmt: skip
        if config.drop_rate:
            x = keras.layers.Dropout(config.drop_rate, name=f"dropout_{layer + 1}")(x)
    return keras.Model(inputs, scaling.readout(x, dataset.num_outputs, number=config.num_layers), name="NN")
