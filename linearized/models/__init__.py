"""Keras networks by name, and the functions that find the module of a network.

A network is a module with a description of its properties, `DECLARED` (see `declaration`), and a function
`build(config, dataset, ridge)` that returns a keras.Model. `config` has the settings that the model declares to read as
attributes, `dataset` is a `linearized.data.dataset.Dataset`, and `ridge` is λ, the strength of the penalty on the
model's weights. Modules of models import Keras only inside functions, so that `DECLARED` can be read without Keras.
"""

from collections.abc import Mapping
from typing import Any

from linearized.base.registry import FILE_ENTRY, loaded
from linearized.models.declaration import Declaration
from linearized.settings.config import Settings
from linearized.settings.model_files import ModelFiles
from linearized.settings.reads import When, when

KERAS_FILE = "linearized.models.keras_file"
LINEARIZED_FILE = "linearized.models.linearized_file"


class _Models(ModelFiles):
    """Registry of the models by name; a name that ends in ".keras" is the path of the user's own model file."""

    def entry(self, name: str) -> str:
        """Return the name under which the settings of a model are declared; all model files have `FILE_ENTRY`."""
        return FILE_ENTRY if self.is_file(name) else name

    def load(self, name: str) -> Any:
        """Import and return the module that builds the model `name`; for a path of a model file, `keras_file`."""
        return loaded(KERAS_FILE) if self.is_file(name) else super().load(name)


MODELS = _Models(
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
NETWORK = "NN"  # default model of an estimator


def declaration(name: str) -> Declaration:
    """Return the declared properties of the model `name`. No framework is imported for this."""
    return MODELS.load(name).DECLARED


def module_of(config: Any) -> Any:
    """Return the module of the model that settings choose.

    Args:
        config: Settings model (a name or the path of a model file) and linearize (whether a model file is linearized).
    """
    if MODELS.is_file(config.model) and config.linearize:
        return loaded(LINEARIZED_FILE)
    return MODELS.load(config.model)


def declared(config: Any) -> Declaration:
    """Return the declared properties of the model that settings choose.

    Args:
        config: Settings model (a name or the path of a model file) and linearize (whether a model file is linearized).
    """
    return module_of(config).DECLARED


def without_images() -> list[str]:
    """Return the names of the models that accept rows that are not images."""
    return [name for name in MODELS if not declaration(name).images]


def setting_groups() -> tuple[type[Settings], ...]:
    """Return the settings classes whose flags belong to single models, each class once, in the order of `MODELS`.

    `linearized train` inherits its flags from them.
    """
    every = [*(declaration(name) for name in MODELS), loaded(KERAS_FILE).DECLARED]
    return tuple(dict.fromkeys(group for one in every for group in one.groups))


def declared_reads() -> dict[str, Mapping[str, When]]:
    """Return, for each model by its name, the settings that it reads and the conditions under which it reads them.

    The user's model files share one entry, whose key is `FILE_ENTRY`.
    """
    linearized = {name: condition & when(linearize=True) for name, condition in loaded(LINEARIZED_FILE).READS.items()}
    of_files = {**loaded(KERAS_FILE).DECLARED.reads, **linearized}
    return {**{name: declaration(name).reads for name in MODELS}, FILE_ENTRY: of_files}
