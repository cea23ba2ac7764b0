"""Declaration of the properties of a model, `DECLARED = Declaration(...)` in its module.

It is read without importing a framework. `linearized train` reads the declarations of all models for its flags, its
checks and the name of a run, so that a new model needs only one module and one line of `MODELS`.
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
    """Properties of a model that settings are checked against.

    Attributes:
        reads: Settings that `build` reads, and the conditions under which it does, see `linearized.settings.reads`.
        groups: Classes of further settings, which become flags of `linearized train`.
        linear: Whether the outputs are linear in all trained parameters. The module of a linear model also has the
            functions `problem(config, dataset, memory)`, which returns the least-squares problem, `get_parameters` and
            `set_parameters`. If it also has `exported(config, dataset, ridge, parameters)`, which returns the solved
            model in the form that `linearized.models.keras_export` saves, a least-squares fit needs no framework.
        formed: Whether the least-squares problem forms its Gram matrix, as `--solver=band` needs.
        units: Default of `--num_units`; 0: the model has no such setting.
        images: Whether rows must be images.
        optimizer: Optimizer of `--solver=auto` where the model is not solved by least squares.
        faster_on_jax: Whether Keras trains the model faster on JAX than on TensorFlow, on a CPU.
        momentum: Variant of momentum SGD with which the model was published: "classical" or "nesterov".
        ridges: Grid of λ: the name of a grid of `linearized.experiments.grids.grid` ("dense", "convolutional",
            "features", "tangents" or "jacobian"), or the values themselves.
        batches: Batch sizes: "dense", "convolutional" or "linear" for published ones (see
            `linearized.solvers.training.schedule.batch_sizes`), or the two sizes during and after warm-up.
        schedule: Function from settings to the schedule of `linearized.solvers.training.recipe.Recipe` that
            `--schedule=published` stands for.
        layout: Setting -> the values with which `--published_weights` can be loaded.
        hidden_layers: Function from settings to the number of layers with a nonlinearity; None: not known.
        parameters: Function from settings, length of a row and number of outputs to a lower bound of the number of
            trained parameters, which is checked against the machine's memory.
        multiplications: Function from settings, length of a row and number of outputs to a lower bound of the
            multiplications for one row's outputs; None: `parameters` is the bound.
        budget: Flags of training, such as the learning rate, that `linearized compare` uses for this model instead of
            its defaults for all networks.
        infinite: Function from settings to the flags of the model's tangent kernel at infinite width
            (`linearized.settings.gram_settings`), by name; None: the kernel is not known.
        check: Function from settings that raises `UserError` if the model cannot combine them.
        complete: Function from settings to further settings of the model that follow from them, by name.
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
