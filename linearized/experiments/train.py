"""Fits of one model to one data set at several ridges: the runs of `linearized train`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging

from linearized.base.accelerators import may_have_accelerator
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.experiments import run as life
from linearized.experiments import select
from linearized.experiments.backend_choice import chosen_backend
from linearized.experiments.fit_results import Result, RidgeFit, about_data, by_target, titled
from linearized.experiments.grids import OWN, grid, mean_diagonal
from linearized.experiments.needs import refuse_beyond_memory, refuse_endless_run
from linearized.experiments.refusals import asked_ridges, read_weights
from linearized.experiments.target_units import TargetUnits
from linearized.experiments.train_settings import TrainSettings
from linearized.models import declared, module_of
from linearized.models.backend import load_backend
from linearized.settings.model_files import MODEL_FILE
from linearized.solvers.training.schedule import batch_sizes

if TYPE_CHECKING:
    from linearized.models.common import BuiltModel
    from linearized.models.keras_export import ExportedModel


def run_levels(config: TrainSettings) -> Iterator[Result]:
    """Fit a model at each noise level of the settings, in increasing order of their indices, and yield each result.

    `run` makes each result, or loads it if the run of that level is finished.

    Args:
        config: Settings with one noise level or several.

    Raises:
        UserError: For errors that a user can correct.
        Busy: If another process holds the folder of a level.
    """
    for level in config.levels():
        yield run(config.at(level), alone=True)


def run(config: TrainSettings, *, alone: bool = False) -> Result:
    """Fit a model at each requested ridge for one noise level, and save and return the result.

    Each fit is scored on all splits, and one ridge is chosen by the rule of `linearized.experiments.select`. The result
    of a finished run is loaded instead, and a run that was killed is resumed.

    Args:
        config: Settings with one noise level.
        alone: Whether this process fits only this model, so that the Keras backend may be chosen to suit it.

    Raises:
        UserError: For errors that a user can correct, and if the settings have several noise levels.
        Busy: If another process holds the run's folder; raised before data and frameworks are loaded.
    """
    level = config.level()

    def fitted(unfinished: Path) -> life.Outcome:
        return _fitted(config, level, unfinished, alone)

    return life.run(config.folder(), config, "linearized train", fitted)


def _fitted(config: TrainSettings, level: int, unfinished: Path, alone: bool) -> life.Outcome:
    """Fit a model at each requested ridge, and return the contents of `result.json` and `arrays.h5`, and a model.

    The model is the fit at the best ridge. With --no_model it is not returned.

    Args:
        config: Settings of the run.
        level: Index of the noise level.
        unfinished: Folder of checkpoints.
        alone: Whether this process fits only this model, see `run`.
    """
    refuse_beyond_memory(config)
    refuse_endless_run(config, config.row_counts()["train"])
    read_weights(config)
    ridges = asked_ridges(config)
    dataset = load_preprocessed(config, level)
    config.check_choice(dataset.task, dataset.name)
    refuse_endless_run(config, len(dataset.train))
    logging.info(
        "%s on %s at noise level %d: %d train rows of dimension %d, %d ridges",
        config.model, dataset.name, level, len(dataset.train), dataset.dim, len(ridges),
    )  # fmt: skip

    if not _needs_no_framework(config) or may_have_accelerator():
        batches = batch_sizes(declared(config).batches, dataset.family, config.max_batch_size)
        backend, reason = chosen_backend(config, len(dataset.train), max(batches), alone=alone)
        backend = load_backend(backend)

    scale = _ridge_scale(config, dataset)
    ridges = {index: scale * ridge for index, ridge in ridges.items()}

    if config.uses_least_squares():
        from linearized.experiments.least_squares_fit import fit
    else:
        from linearized.experiments.gradient_fit import fit
    fits, about = fit(config, dataset, ridges, unfinished)
    if config.reads("backend"):
        about |= {"backend": backend, "backend_reason": reason}
    entries = [_entry(done, dataset, config.loss) for done in fits]
    choice = select.choose(entries, metric=config.choose_by)
    select.warn(config.model_name(), choice, entries, _advice(config))
    size = len(grid(declared(config).ridges, dataset.family, num_layers=config.num_layers))
    width = "" if config.num_units is None else " or --num_units"
    select.warn_edge(config.model_name(), choice, entries, size,
                     f"Its grid is fixed: change the scale of the inputs{width}.")  # fmt: skip
    best = fits[choice.position]
    model = _model(config, dataset, best)
    record = {
        "title": _title(config, dataset),
        "settings": {**config.to_dict(), "noise_ind": level},
        "data": about_data(dataset),
        "model": {
            "num_parameters": model.num_parameters,
            "trained_parameters": model.trained_parameters,
            "hidden_layers": hidden_layers(config),
        },
        "solver": about,
        "ridge_unit": "λ of (1/n)‖Av - y‖² + λ‖v‖²; nλ is the ρ of (K + ρI)α = y",
        "ridges": entries,
        **select.recorded(choice, entries, size=size),
        **by_target(dataset, best.predictions),
        **({} if best.tangents is None else {"tangents": best.tangents}),
    }
    arrays = {f"predictions/{split}": values for split, values in best.predictions.items()}
    arrays |= {f"history/{done.index:03d}": done.history for done in fits}
    arrays |= {f"history/{done.index:03d}_validation": done.validation for done in fits if len(done.validation)}
    return life.Outcome(record, arrays, {} if config.no_model else {MODEL_FILE: model.save})


def _ridge_scale(config: TrainSettings, dataset: Dataset) -> float:
    """Return the number by which the ridges of the model's grid are multiplied.

    For a linearized model file it is an estimate of the trace of A Aᵀ divided by n, where A contains the Jacobians at
    the n train rows. For random or tangent features on the user's own data it is the expected mean of the diagonal of
    the features' kernel matrix. In all other cases, such as published grids, it is 1.

    Args:
        config: Settings of the run.
        dataset: Data set with the train rows.
    """
    ridges = declared(config).ridges
    if ridges == "jacobian":
        return module_of(config).ridge_scale(config, dataset)
    return mean_diagonal(ridges, config.num_units, dataset.train.x) if dataset.family == OWN else 1.0


def hidden_layers(config: TrainSettings) -> int | None:
    """Return the number of layers with a nonlinearity in the model that the settings choose.

    Results store this number, so that models can be compared with kernels of the same depth. It is None for a model
    file.
    """
    return declared(config).hidden_layers(config)


def _advice(config: TrainSettings) -> str:
    """Return a sentence that states what a user can do if the best ridge did not converge."""
    if config.uses_least_squares():
        return "Raise --max_cg_iters, or loosen --cg_rtol and --cg_atol, or take a larger ridge."
    return "Give more epochs with --max_cg_iters, or another --learning_rate."


def _entry(done, dataset: Dataset, loss: str) -> dict[str, Any]:
    entry = {"index": done.index, "ridge": done.ridge, **done.evidence, "fit_seconds": round(done.seconds, 3)}
    for name, split in dataset.splits().items():
        scores = dataset.score(split, done.predictions[name], loss=loss)
        entry |= {f"{name}_{metric}": value for metric, value in scores.items()}
    return entry


def _needs_no_framework(config: TrainSettings) -> bool:
    """Return whether the model can be fitted and saved without importing Keras.

    This holds for least-squares models if their module has a function `exported`, which writes a model file without
    Keras.
    """
    return config.uses_least_squares() and hasattr(module_of(config), "exported")


def _model(config: TrainSettings, dataset: Dataset, best: RidgeFit) -> "ExportedModel | BuiltModel":
    """Return the model at the best ridge: an object with numbers of parameters and a method `save(path)`.

    Args:
        config: Settings of the run.
        dataset: Dataset that determines the shapes of inputs and outputs.
        best: Fit at the best ridge.
    """
    module = module_of(config)
    if _needs_no_framework(config):
        return module.exported(config, dataset, best.ridge, best.fitted())
    from linearized.models.common import BuiltModel, build

    model = build(config, dataset, best.ridge)
    if config.uses_least_squares():
        module.set_parameters(model, best.fitted())
        return BuiltModel(model)
    model.set_weights(best.parameters)
    units = TargetUnits.of(dataset, config)
    return BuiltModel(model if units is None else units.model(model))


def _title(config: TrainSettings, dataset: Dataset) -> str:
    units = "" if config.num_units is None else f", N = {config.num_units},"
    return titled(f"{config.model_name()}{units}", dataset)
