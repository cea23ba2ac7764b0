"""Predicted and measured errors of kernel ridge regression for several numbers of train rows and ridges.

These are the runs of `linearized theory`. The errors are predicted from the spectrum of the kernel on a pool of rows,
and measured with fits on random parts of the pool.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import read_json
from linearized.base.seals import write_json
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.experiments import run as life
from linearized.experiments.fit_results import Result
from linearized.experiments.grids import OWN, kernel_grid, listed_ridges
from linearized.experiments.theory_settings import TheorySettings
from linearized.settings.memory import refuse_beyond_machine, refuse_large_embedding, refuse_large_kernel
from linearized.storage.array_files import open_hdf5
from linearized.storage.files import whole_file, whole_hdf5
from linearized.storage.results import THEORY

if TYPE_CHECKING:
    from linearized.experiments.theory_record import PoolKernel

NAME, ARRAYS = THEORY, "theory.h5"
ADVICE = "Remove its folder and run again."
COPIES = 4  # matrices of the pool's size that the decomposition holds in memory at once


def run(config: TheorySettings) -> list[Result]:
    """Predict and measure errors at each noise level of the settings, and return the list of results.

    `run_levels` does the same and yields the results one by one.

    Args:
        config: Settings with one noise level or several.

    Raises:
        UserError: For errors that a user can correct.
        Busy: If another process holds the folder of a level.
    """
    return list(run_levels(config))


def run_levels(config: TheorySettings) -> Iterator[Result]:
    """Predict and measure errors at each noise level of the settings in turn, and yield each result.

    For each level the pool of rows is loaded, its kernel is found or computed, errors are predicted and measured, and
    the result is saved. The result of a finished level is loaded. `linearized.experiments.theory_record.compared`
    describes the record, stored as `theory.json`, and the arrays, stored as `theory.h5`.

    Raises:
        UserError: For errors that a user can correct.
        Busy: If another process holds the folder of a level.
    """
    for level in config.levels():
        one = config.at(level)
        store = life.Store(_read_back, _save, load, names=(ARRAYS,))
        yield life.run(one.folder(), one, "linearized theory", lambda _, one=one, level=level: _made(one, level),
                       store=store)  # fmt: skip


def load_arrays(folder: Path | str) -> dict[str, np.ndarray]:
    """Return the arrays of a finished result by name, read from `theory.h5` in its folder.

    Raises:
        Unreadable: For a missing or damaged file.
    """
    with open_hdf5(Path(folder) / ARRAYS, ADVICE) as file:
        return {name: file[name][()] for name in file}


def _made(config: TheorySettings, level: int) -> life.Outcome:
    """Predict and measure errors at one noise level, and return the contents of `theory.json` and `theory.h5`.

    Args:
        config: Settings of the command.
        level: Index of the noise level.
    """
    from linearized.experiments.theory_lines import lines
    from linearized.experiments.theory_record import compared

    _refuse_large(config, level, config.row_counts())
    dataset = load_preprocessed(config, level)
    rows = len(dataset.train)
    _refuse_large(config, level, {name: len(split) for name, split in dataset.splits().items()})
    sizes = config.listed_sizes(rows)
    start = time.monotonic()
    kernel, made = _pool_kernel(config, level, dataset)
    about = {"label": config.label(), "scale": kernel.scale, "found": not made,
             "seconds": round(time.monotonic() - start, 3)}  # fmt: skip
    ridges = _ridges(config, dataset, kernel)
    trace = float(np.trace(kernel.pool, dtype=np.float64)) / rows
    further = [] if config.features else lines(config.gram_settings(level), dataset, trace)
    record, arrays = compared(config, dataset, kernel, sizes, ridges, further)
    return life.Outcome({**record, "settings": {**config.to_dict(), "noise_ind": level}, "kernel": about}, arrays)


def _pool_kernel(config: TheorySettings, level: int, dataset: Dataset) -> tuple["PoolKernel", bool]:
    """Return the kernel on the pool and the test rows, and whether it had to be computed.

    Args:
        config: Settings of the command.
        level: Index of the noise level.
        dataset: Pool (as its train rows) and test rows.
    """
    from linearized.experiments.theory_record import PoolKernel
    from linearized.kernel_ridge.gram_source import find_or_make

    if config.features:
        from linearized.storage.embeddings import open_embedding

        found, made = find_or_make(config.embedding_settings(level), dataset, opened=open_embedding,
                                   module="kernel_gen.embed")  # fmt: skip
        train, test = found.splits["train"][:], found.splits["test"][:]
        return PoolKernel(train @ train.T, test @ train.T, found.manifest.scale), made
    found, made = find_or_make(config.gram_settings(level), dataset)
    return PoolKernel(found.to_memory(), found.test.to_memory(), found.manifest.scale), made


def _ridges(config: TheorySettings, dataset: Dataset, kernel: "PoolKernel") -> np.ndarray:
    """Return the ridges ρ at which errors are predicted: those of --ridges, or the default grid of `linearized krr`.

    Args:
        config: Settings of the command.
        dataset: Pool (as its train rows) and test rows.
        kernel: Kernel on these rows, whose trace is the unit of some grids.
    """
    if config.ridges:
        return np.unique(listed_ridges(config.ridges))
    stax = kernel.scale == "stax" and config.kernel != "POLYNOMIAL"
    family = OWN if config.grid_by_trace() else dataset.family
    trace = float(np.trace(kernel.pool, dtype=np.float64))
    return kernel_grid(
        family, kernel=config.kernel, dense_layers=config.num_layers + 1, stax_scale=stax,
        own_scale=config.scale == "published", trace=trace,
    )  # fmt: skip


def _refuse_large(config: TheorySettings, level: int, counts: Mapping[str, int]) -> None:
    """Raise `UserError` if the pool has too many rows for LAPACK, or its kernel needs too much memory or time.

    Args:
        config: Settings of the command.
        level: Index of the noise level.
        counts: Number of rows by the name of the split: train (the pool), validation, test; 0 for a number that is not
            known before the files are read.
    """
    from linearized.experiments.needs import refuse_endless_matrix
    from linearized.solvers.linear.eigh import MOST

    rows = counts["train"]
    if rows > MOST:
        raise UserError(f"The spectrum of a pool takes at most {MOST} rows. Received: {rows}. Give a --pool, such as "
                        "--pool=4000.")  # fmt: skip
    itemsize = np.dtype(config.dtype).itemsize
    refuse_beyond_machine(COPIES * itemsize * rows**2, f"A pool of {rows:,} rows", "Lower --pool.")
    if config.features:
        refuse_large_embedding(config, config.described().image_shape, config.dim(), rows)
    else:
        refuse_large_kernel(config)
    refuse_endless_matrix(config, level, counts)


def _read_back(folder: Path) -> dict[str, Any] | None:
    return load(folder) if (folder / NAME).is_file() else None


def _save(folder: Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    from linearized.storage.results import versions

    with whole_hdf5(folder / ARRAYS) as file:
        for name, array in arrays.items():
            file[name] = array
    with whole_file(folder / NAME) as path:
        write_json(path, {**record, "versions": versions()})


def load(folder: Path | str) -> dict[str, Any]:
    """Return the record of a finished result, read from `theory.json` in its folder.

    Raises:
        UserError: If the file is missing or damaged.
    """
    return read_json(Path(folder) / NAME, ADVICE)
