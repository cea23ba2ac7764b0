"""SNNK_MLP: a fully connected network whose hidden layers are scalable neural network kernels (ICLR 2024).

Each hidden layer approximates a dense layer with weights W. It computes m random features of its inputs and multiplies
them by a matrix Ψ, see `linearized.layers.snnk.layer`. Ψ is trained; with `--snnk_trained=weights`, W is trained and Ψ
is computed from W. Penalty: λ Σ‖Ψ‖² over the hidden layers, or λ Σ‖W‖² if W is trained. The readout has no penalty.
After training, `linearized.layers.snnk.bundle.bundle` can multiply each Ψ with the next matrix, which gives layers with
m x m weights.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.models.declaration import Declaration
from linearized.settings.model_settings import SNNKSettings
from linearized.settings.reads import reads

if TYPE_CHECKING:
    import keras

    from linearized.layers.snnk.layer import SNNK


def _parameters(config: Any, _dim: int, outputs: int) -> int:
    return config.num_units * (config.num_layers * config.snnk_features + outputs)


DECLARED = Declaration(
    reads("num_units", "num_layers", "drop_rate", "seed", "weight_seed", *SNNKSettings.own()),
    groups=(SNNKSettings,),
    units=1024,
    hidden_layers=lambda config: config.num_layers,
    parameters=_parameters,
)


def build(config: Any, dataset: Dataset, ridge: float = 0.0) -> "keras.Model":
    """Return an uncompiled SNNK_MLP from rows (n, d) to outputs (n, k); dropout, if any, follows every hidden layer.

    Args:
        config: Settings num_units (outputs of each hidden layer), num_layers (number of hidden layers), drop_rate, seed
            (of the initial weights), weight_seed (of the random projections), and those of
            `linearized.settings.model_settings.SNNKSettings`.
        dataset: Dataset that determines the length of a row d and the number of outputs k.
        ridge: λ of the penalty that the module's docstring states.

    Raises:
        UserError: If the expansion of the activation has more terms than features, and for other settings that cannot
            be combined.
    """
    import keras

    from linearized.models.common import readout

    x = inputs = keras.Input((dataset.dim,), name="x")
    for layer in range(1, config.num_layers + 1):
        x = _hidden(config, x.shape[-1], layer, ridge)(x)
        if config.drop_rate:
            x = keras.layers.Dropout(config.drop_rate, name=f"dropout_{layer}")(x)
    return keras.Model(inputs, readout(dataset, x.shape[-1], config.seed)(x), name="SNNK_MLP")


def _hidden(config: Any, dim: int, layer: int, ridge: float) -> "SNNK":
    from linearized.layers.initializers import SeededNormal
    from linearized.layers.snnk.expansions import snnk_function
    from linearized.layers.snnk.layer import SNNK
    from linearized.models.common import penalty

    try:
        return SNNK(
            config.num_units,
            config.snnk_features,
            snnk_function(config.snnk_activation),
            config.snnk_trained,
            kernel_initializer=SeededNormal(np.sqrt(1 / dim), (config.seed, layer)),
            regularizer=penalty(ridge),
            expansion=config.snnk_expansion,
            reach=config.snnk_reach,
            degree=config.snnk_degree,
            features=config.snnk_kind,
            shift=config.snnk_shift,
            scale=config.snnk_scale,
            orthogonal=config.snnk_orthogonal,
            lengths=config.snnk_lengths,
            constant=config.snnk_constant,
            normalize=config.snnk_normalize,
            seed=(config.weight_seed, layer),
            name=f"hidden_{layer}",
        )
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"The --snnk_ flags do not go together. {error}") from error
