"""Keras networks by name. A model is a module with `build(config, dataset, ridge) -> keras.Model` and `LINEAR`.

`build` takes any object with the settings that the model reads (num_units, num_layers, activation, drop_rate, seed,
weight_seed, law, block, directions, depth, and the groups of `linearized.settings.model_settings`), a
`linearized.data.dataset.Dataset` and λ, the strength of the model's own penalty. `LINEAR` says whether the output is
linear in everything that is trained; such a module also has `get_parameters` and `set_parameters`.
"""

from linearized.base.registry import Registry

MODELS = Registry(
    "model",
    {
        "NN": "linearized.models.nn",
        "RF": "linearized.models.rf",
        "NT": "linearized.models.nt",
        "CNN": "linearized.models.cnn",
        "SNNK_MLP": "linearized.models.snnk_mlp",
        "KERV_CNN": "linearized.models.kervolution_cnn",
        "RESNET": "linearized.models.resnet",
        "LAMBDA_RESNET": "linearized.models.lambda_resnet",
    },
    aliases={"FullyConnected": "NN", "rf": "RF", "2layerNTK": "NT", "Myrtle": "CNN"},
)

# --num_units where it is not given
UNITS = {"SNNK_MLP": 1024, "CNN": 32, "KERV_CNN": 32, "RESNET": 64, "LAMBDA_RESNET": 64}
OTHER_UNITS = 4096
