"""The class `Declaration`: properties of a model, such as its settings and its default optimizer.

The module of each model assigns `DECLARED = Declaration(...)`.

A declaration is read without importing a framework. `linearized train` derives its flags, its checks and the name of a
run from the declarations of all models. A new model therefore needs only a module and a line in `MODELS`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from linearized.settings.config import Settings
from linearized.settings.reads import When

HIDDEN_UNITS = 4096  # default number of hidden units per layer


def _one(_config: Any) -> int:
    return 1


def _unknown(_config: Any, _dim: int, _outputs: int) -> int:
    return 0


def _published(_config: Any) -> str:
    return "published"


@dataclasses.dataclass(frozen=True)
class Declaration:
    """Properties of a model, for the checks of settings and the defaults of its training.

    Attributes:
        reads: Settings that `build` reads, each with the condition under which `build` reads it, see
            `linearized.settings.reads`.
        groups: Classes of further settings, which become flags of `linearized train`.
        linear: Whether the outputs are linear in all trained parameters. The module of a linear model also has the
            functions `problem(config, dataset, memory)`, which returns the least-squares problem, `get_parameters` and
            `set_parameters`. A least-squares fit needs no framework if the module also has the function
            `exported(config, dataset, ridge, parameters)`, which returns the solved model in the form that
            `linearized.models.keras_export` saves.
        formed: Whether the Gram matrix of the least-squares problem can be computed, which `--solver=band` needs.
        units: Default of `--num_units`; 0: the model has no such setting.
        images: Whether rows must be images.
        optimizer: Optimizer that `--solver=auto` selects if the model is not solved by least squares.
        faster_on_jax: Whether Keras trains the model faster on JAX than on TensorFlow, on a CPU.
        momentum: Variant of momentum SGD with which the model was published: "classical" or "nesterov".
        ridges: Grid of λ: the name of a grid of `linearized.experiments.grids.grid` ("dense", "convolutional",
            "features", "tangents" or "jacobian"), or the values themselves.
        batches: Batch sizes: "dense", "convolutional" or "linear" for published ones (see
            `linearized.solvers.training.schedule.batch_sizes`), or the two sizes during and after warm-up.
        schedule: Function from settings to the name of the schedule that `--schedule=published` selects, see
            `linearized.solvers.training.recipe.Recipe`.
        layout: Dictionary from a setting to the values that it may have if `--published_weights` are loaded.
        hidden_layers: Function from settings to the number of layers with a nonlinearity; None: not known.
        parameters: Function from settings, length of a row and number of outputs to a lower bound of the number of
            trained parameters, which is checked against the machine's memory.
        multiplications: Function from settings, length of a row and number of outputs to a lower bound of the
            multiplications for one row's outputs; None: `parameters` is the bound.
        budget: Flags of training, such as the learning rate, that `linearized compare` uses for this model instead of
            the defaults for all networks.
        infinite: Function from settings to the flags of the model's tangent kernel at infinite width
            (`linearized.settings.gram_settings`), by name; None: the kernel is not known.
        check: Function of the settings that raises `UserError` for a combination that the model does not support.
        complete: Function from settings to the values of settings that the model replaces, by name, such as a default
            of its own.
    """

    reads: Mapping[str, When]
    groups: tuple[type[Settings], ...] = ()
    linear: bool = False
    formed: bool = False
    units: int = HIDDEN_UNITS
    images: bool = False
    optimizer: str = "adam"
    faster_on_jax: bool = False
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
