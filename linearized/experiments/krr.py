"""Kernel ridge regression on a dataset over a ridge grid: the runs of `linearized krr`."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.extras import refuse_unreachable
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.experiments import run as life
from linearized.experiments.fit_results import Result
from linearized.experiments.grids import OWN, kernel_grid, listed_ridges
from linearized.experiments.krr_settings import TILED, KernelFitSettings
from linearized.experiments.needs import refuse_endless_fit, refuse_large_fit
from linearized.settings.gram_settings import KERNELS, KernelSettings
from linearized.storage import results

if TYPE_CHECKING:
    from linearized.cluster.tiles import Here, OnWorkers
    from linearized.kernel_ridge.computed_gram import ComputedGram
    from linearized.storage.embeddings import Embedding
    from linearized.storage.gram import Gram


def run(config: KernelFitSettings) -> list[Result]:
    """Fit a kernel at each noise level of the settings, and return the list of results.

    `run_levels` does the same and yields the results one by one.

    Args:
        config: Settings with one noise level or several.

    Raises:
        UserError: For errors that a user can correct.
        Busy: If another process holds the folder of a level.
    """
    return list(run_levels(config))


def run_levels(config: KernelFitSettings) -> Iterator[Result]:
    """Fit a kernel at each noise level of the settings in turn, and yield each result.

    For each level the data are loaded, the Gram matrix K is found or computed, every ridge is fitted, all splits are
    scored, a ridge is chosen and the result is saved. The result of a finished level is loaded, and the work of an
    interrupted level is continued.

    Raises:
        UserError: For errors that a user can correct.
        Busy: If another process holds the folder of a level; raised before data are loaded.
    """
    levels = config.levels()
    if config.scheduler:
        refuse_unreachable(config.scheduler)
    for level in levels:
        yield _run_level(config.at(level), level)


def _run_level(config: KernelFitSettings, level: int) -> Result:
    asked = config
    if config.gram:
        from linearized.kernel_ridge.gram_source import settings_of

        made = settings_of(config.gram)
        kernel = {field.name: getattr(made, field.name) for field in dataclasses.fields(KernelSettings)}
        config = dataclasses.replace(config, **kernel)
    folder = config.folder()
    if config.gram and results.finished(folder):
        _gram_of(config, asked, level, _checked(load_preprocessed(config, level)))  # refuses a folder of another kernel
    return life.run(folder, config, "linearized krr", lambda work: _fitted(config, asked, level, work))


def _fitted(config: KernelFitSettings, asked: KernelFitSettings, level: int, unfinished: Path) -> life.Outcome:
    """Fit the kernel at every ridge for one noise level, and return the contents of `result.json` and `arrays.h5`.

    Args:
        config: Settings; with --gram, the settings of the kernel have been replaced by those of the folder.
        asked: Settings as the user gave them.
        level: Index of the noise level.
        unfinished: Folder of the solver's checkpoints.
    """
    from linearized.cluster.tiles import places
    from linearized.experiments.kernel_record import outputs_of, scored
    from linearized.experiments.path_solve import solved

    refuse_large_fit(config)
    refuse_endless_fit(config, level, config.row_counts())
    dataset = _checked(load_preprocessed(config, level))
    config.check_choice(dataset.task, dataset.name)
    refuse_endless_fit(config, level, {name: len(split) for name, split in dataset.splits().items()})
    with places(config.workers, config.scheduler if TILED.holds(config) else "") as place:
        if config.by_labels():
            return KERNELS.load(config.kernel).fit_level(config, level, dataset, unfinished, place)
        if config.centres:
            from linearized.experiments.centres_fit import fitted

            return fitted(config, level, dataset, unfinished, fixed_kernel, _ridges, place)
        start = time.monotonic()
        gram, made, blocks, scale = _gram_of(config, asked, level, dataset, place)
        about = {"found": not made, "seconds": round(time.monotonic() - start, 3)}
        ridges = _ridges(config, dataset, scale, lambda: _trace(gram))
        path = solved(config, dataset, gram, ridges, unfinished)
        record, arrays = scored(config, level, dataset, path, outputs_of(dataset, path, blocks), scale)
    return life.Outcome({**record, "kernel": about}, arrays)


def _ridges(config: KernelFitSettings, dataset: Dataset, scale: str, trace: Callable[[], float]) -> np.ndarray:
    """Return the ridges ρ at which the kernel is fitted: those of --ridges, or else a default grid.

    Args:
        config: Settings; with --gram, the settings of the kernel have been replaced by those of the folder.
        dataset: Rows and labels.
        scale: Scale of the kernel's inputs: "input" (raw) or "stax" (divided by √d or √channels).
        trace: Function that returns the trace of K, for grids in units of the trace.
    """
    if config.ridges:
        return listed_ridges(config.ridges)
    family = OWN if config.grid_by_trace() else dataset.family
    return kernel_grid(
        family, kernel=config.kernel, dense_layers=config.num_layers + 1,
        stax_scale=scale == "stax" and config.kernel != "POLYNOMIAL", own_scale=config.scale == "published",
        name=config.ridge_grid, trace=trace() if family == OWN else 1.0,
    )  # fmt: skip


def _gram_of(
    config: KernelFitSettings, asked: KernelFitSettings, level: int, dataset: Dataset,
    place: "Here | OnWorkers | None" = None,
) -> tuple["Gram | Embedding | ComputedGram", bool, dict[str, Any], str]:  # fmt: skip
    """Find or compute the kernel matrices of one noise level.

    K is read from the --gram folder after a check against the settings, or from the kernel's own folder, where it is
    computed if it is missing. With --features it is an embedding instead, and with --on_the_fly nothing is stored.

    Args:
        config: Settings; with --gram, the settings of the kernel have been replaced by those of the folder.
        asked: Settings as the user gave them.
        level: Index of the noise level.
        dataset: Rows and labels.
        place: Object that computes blocks of K with --on_the_fly, from `linearized.cluster.tiles.places`; None: this
            process.

    Returns:
        K between the train rows; whether it had to be computed; the kernel between validation or test rows and train
        rows, by the name of the split; and the scale of the kernel's inputs, "input" or "stax".
    """
    if config.on_the_fly:
        from linearized.kernel_ridge.computed_gram import ComputedGram
        from linearized.kernel_ridge.cross_kernel import CrossKernel

        kernel, x = fixed_kernel(config, dataset), np.asarray(dataset.train.x)
        train = kernel.prepare(x)
        blocks = {name: CrossKernel(kernel, np.asarray(split.x), train) for name, split in dataset.splits().items()
                  if name != "train"}  # fmt: skip
        return ComputedGram(kernel, x, place), True, blocks, kernel.scale
    if config.gram:
        from linearized.kernel_ridge.gram_source import open_folder

        gram, made = open_folder(config.gram, dataset, asked), False  # compares its rows and kernel
        config.check_grid()
    else:
        gram, made = _found_or_made(config, level, dataset)
    return gram, made, {"validation": gram.validation, "test": gram.test}, gram.manifest.scale


def fixed_kernel(config: KernelFitSettings, dataset: Dataset) -> Any:
    """Return the kernel of the settings, with parameters such as a bandwidth computed from the train rows.

    Args:
        config: Settings of the kernel.
        dataset: Data set with the train rows.
    """
    return KERNELS.load(config.kernel).build(config, dataset.image_shape).on(np.asarray(dataset.train.x))


def _trace(gram: "Gram | Embedding | ComputedGram") -> float:
    """Return the trace of the Gram matrix K or, for an embedding with features Φ, of ΦΦᵀ, in one pass over the data."""
    from linearized.storage.embeddings import Embedding

    if isinstance(gram, Embedding):
        return sum(float(np.square(block, dtype=np.float64).sum()) for _, block in gram.splits["train"].blocks())
    return gram.trace()


def _found_or_made(config: KernelFitSettings, level: int, dataset: Dataset) -> "Gram | Embedding":
    from linearized.kernel_ridge.gram_source import find_or_make

    if config.features:
        from linearized.storage.embeddings import open_embedding

        settings = config.embedding_settings(level)
        return find_or_make(settings, dataset, opened=open_embedding, module="kernel_gen.embed")

    return find_or_make(config.gram_settings(level), dataset)


def _checked(dataset: Dataset) -> Dataset:
    """Return the dataset unchanged. Raises `UserError` if all its train rows have the same class."""
    labels = dataset.train.y
    if dataset.task != "regression" and (labels == labels[0]).all():
        raise UserError(
            f"All {len(labels)} train rows are of class {labels[0]}: there is nothing to tell apart. Take more "
            "rows (--num_train), or --subset=random."
        )
    return dataset
