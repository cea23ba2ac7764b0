"""Keras networks by name. A model is a module with `DECLARED` (see `declaration`) and `build(config, dataset, ridge)`.

`build` returns a keras.Model. Its arguments are an object with the settings that the model declares to read, a
`linearized.data.dataset.Dataset`, and λ, the strength of the penalty on the model's weights. Model modules import Keras
only inside functions, so that their declarations can be read without it.
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
    """Registry of the models; a name that ends in ".keras" is the path of a model file of the user's."""

    def entry(self, name: str) -> str:
        """Return the name under which settings of a model are declared; all model files share `FILE_ENTRY`."""
        return FILE_ENTRY if self.is_file(name) else name

    def load(self, name: str) -> Any:
        """Import and return the module that builds the model called `name`; for a model file that is `keras_file`."""
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
    """Return the declaration of a model's module; no framework is imported."""
    return MODELS.load(name).DECLARED


def module_of(config: Any) -> Any:
    """Return the module of the model that settings choose by `model` and, for a model file, by `linearize`."""
    if MODELS.is_file(config.model) and config.linearize:
        return loaded(LINEARIZED_FILE)
    return MODELS.load(config.model)


def declared(config: Any) -> Declaration:
    """Return the declaration of the model that settings choose, see `module_of`."""
    return module_of(config).DECLARED


def without_images() -> list[str]:
    """Return the names of the models whose rows need not be images."""
    return [name for name in MODELS if not declaration(name).images]


def setting_groups() -> tuple[type[Settings], ...]:
    """Return the classes of the flags that models declare, each once, in the order of `MODELS`."""
    every = [*(declaration(name) for name in MODELS), loaded(KERAS_FILE).DECLARED]
    return tuple(dict.fromkeys(group for one in every for group in one.groups))


def declared_reads() -> dict[str, Mapping[str, When]]:
    """Return the settings that each model reads and the conditions under which it does, by the name of the model.

    Those of all model files are under `FILE_ENTRY`.
    """
    linearized = {name: condition & when(linearize=True) for name, condition in loaded(LINEARIZED_FILE).READS.items()}
    of_files = {**loaded(KERAS_FILE).DECLARED.reads, **linearized}
    return {**{name: declaration(name).reads for name in MODELS}, FILE_ENTRY: of_files}
