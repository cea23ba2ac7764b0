"""What a model module declares of itself, without importing a framework: `DECLARED = Declaration(...)`.

`train.py` reads the declarations of all models for its flags, its refusals and the name of a run, so that a new model
is one module and one line of `MODELS`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from linearized.settings.config import Settings
from linearized.settings.reads import When

HIDDEN_UNITS = 4096


def _one(_config: Any) -> int:
    return 1


def _unknown(_config: Any, _dim: int, _outputs: int) -> int:
    return 0


def _never(_outputs: int) -> bool:
    return False


def _published(_config: Any) -> str:
    return "published"


@dataclasses.dataclass(frozen=True)
class Declaration:
    """Properties of a model that settings are checked against.

    Attributes:
        reads: The settings that `build` reads, see `linearized.settings.reads`.
        groups: Classes of further flags, which become flags of `train.py`.
        linear: Whether the outputs are linear in everything that is trained. Such a module also has `problem(config,
            dataset, memory)`, the least-squares problem, and `get_parameters` and `set_parameters`; with
            `exported(config, dataset, ridge, parameters)`, the solved model as `linearized.models.keras_export` saves
            it, its least-squares fit needs no framework.
        formed: Returns whether the least-squares problem forms its Gram matrix for so many outputs, as
            `--solver=band` needs.
        units: `--num_units` where it is not given; 0: the model has no such setting.
        images: Whether rows must be images.
        optimizer: What `--solver=auto` takes where the model is not solved by least squares.
        momentum: Published rule of momentum SGD: classical or nesterov.
        ridges: The grid of λ: "dense", "convolutional", "features" or "tangents" for a published one (see
            `linearized.experiments.grids.grid`), or the values themselves.
        batches: The batch sizes: "dense", "convolutional" or "linear" for published ones (see
            `linearized.solvers.training.schedule.batch_sizes`), or the two sizes, while warming up and after it.
        schedule: Returns what `--schedule=published` means for the settings, a schedule of
            `linearized.solvers.training.recipe.Recipe`.
        layout: The values that published weights need of settings, by the name of the setting.
        hidden_layers: Returns the number of layers with a nonlinearity from the settings; None: it is not known.
        parameters: Returns a lower bound of the numbers that are trained, from settings, length of a row and number of
            outputs; it guards the machine's memory.
        multiplications: Returns a lower bound of the multiplications that one row's outputs take, from the same values;
            None: `parameters` is one.
        budget: Flags of training, such as the learning rate, with which `linearized compare` trains the model in place
            of those that it has for all networks.
        infinite: Returns the flags of the tangent kernel at infinite width (`linearized.settings.gram_settings`) from
            the settings; None: it is not known.
        check: Raises `UserError` for settings that the model cannot have together.
        complete: Returns settings of the model's own that follow from others, by name.
    """

    reads: Mapping[str, When]
    groups: tuple[type[Settings], ...] = ()
    linear: bool = False
    formed: Callable[[int], bool] = _never
    units: int = HIDDEN_UNITS
    images: bool = False
    optimizer: str = "adam"
    momentum: str = "classical"
    ridges: str | tuple[float, ...] = "dense"
    batches: str | tuple[int, int] = "dense"
    schedule: Callable[[Any], str] = _published
    layout: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    hidden_layers: Callable[[Any], int | None] = _one
    parameters: Callable[[Any, int, int], int] = _unknown
    multiplications: Callable[[Any, int, int], int] | None = None
    budget: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    infinite: Callable[[Any], dict[str, Any]] | None = None
    check: Callable[[Any], None] | None = None
    complete: Callable[[Any], dict[str, Any]] | None = None
