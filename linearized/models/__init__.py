"""Keras networks by name. A model is a module with `DECLARED` (see `declaration`) and `build(config, dataset, ridge)`.

`build` takes any object with the settings that the model declares to read, a `linearized.data.dataset.Dataset` and λ,
the strength of the model's own penalty, and returns a keras.Model. Modules import Keras in functions alone, so that
their declarations are read without it.
"""

from linearized.base.registry import Registry
from linearized.models.declaration import Declaration
from linearized.settings.config import Settings

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
NETWORK = "NN"  # trained by an estimator that is not asked for another model


def declaration(name: str) -> Declaration:
    """Return what the module of a model declares of it; no framework is imported."""
    return MODELS.load(name).DECLARED


def without_images() -> list[str]:
    """Return the names of the models whose rows need not be images."""
    return [name for name in MODELS if not declaration(name).images]


def setting_groups() -> tuple[type[Settings], ...]:
    """Return the classes of the flags that models declare, each once, in the order of `MODELS`."""
    return tuple(dict.fromkeys(group for name in MODELS for group in declaration(name).groups))
