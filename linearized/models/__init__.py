"""Registry of the Keras networks by name, `MODELS`, and functions that find the module of a network.

The module of a network contains a description of the network's properties, `DECLARED` (see `declaration`), and a
function `build(config, dataset, ridge)` that returns a keras.Model. The attributes of `config` are settings, `dataset`
is a `linearized.data.dataset.Dataset`, and `ridge` is λ, the strength of the penalty on the model's weights. `build`
reads only the settings that `DECLARED` lists. The module imports Keras only inside functions, so that `DECLARED` can be
read without Keras.
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
        """Return the key of a model in `declared_reads`: its name, or `FILE_ENTRY` for the path of a model file."""
        return FILE_ENTRY if self.is_file(name) else name

    def load(self, name: str) -> Any:
        """Import and return the module of the model `name`, which is `keras_file` for the path of a model file."""
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
    """Return the declared properties of the model `name`, without importing Keras."""
    return MODELS.load(name).DECLARED


def module_of(config: Any) -> Any:
    """Return the module of the model that settings choose.

    Args:
        config: Settings `model`, a name or the path of a model file, and `linearize`, whether that file is linearized.
    """
    if MODELS.is_file(config.model) and config.linearize:
        return loaded(LINEARIZED_FILE)
    return MODELS.load(config.model)


def declared(config: Any) -> Declaration:
    """Return the declared properties of the model that settings choose.

    Args:
        config: Settings `model`, a name or the path of a model file, and `linearize`, whether that file is linearized.
    """
    return module_of(config).DECLARED


def without_images() -> list[str]:
    """Return the names of the models that accept rows that are not images."""
    return [name for name in MODELS if not declaration(name).images]


def setting_groups() -> tuple[type[Settings], ...]:
    """Return the settings classes that define flags of single models, each class once, in the order of `MODELS`.

    The settings class of `linearized train` inherits these flags.
    """
    every = [*(declaration(name) for name in MODELS), loaded(KERAS_FILE).DECLARED]
    return tuple(dict.fromkeys(group for one in every for group in one.groups))


def declared_reads() -> dict[str, Mapping[str, When]]:
    """Return the settings that each model reads, with the conditions under which it reads them, by name of the model.

    All model files of users share one entry, with the key `FILE_ENTRY`.
    """
    linearized = {name: condition & when(linearize=True) for name, condition in loaded(LINEARIZED_FILE).READS.items()}
    of_files = {**loaded(KERAS_FILE).DECLARED.reads, **linearized}
    return {**{name: declaration(name).reads for name in MODELS}, FILE_ENTRY: of_files}
