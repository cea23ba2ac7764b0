"""Kernel ridge regression with m of the n train rows as centres (Nyström), as one run of `linearized krr --centres=m`.

The fitted function is f(x) = Σ_c k(x, c) a_c over the centres c, see `linearized.kernel_ridge.nystrom`. `fitted`
returns the record of a run and the coefficients of the centres, for given settings and rows.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from linearized.base.machine_memory import working_bytes
from linearized.cluster.tiles import Here, OnWorkers
from linearized.data.dataset import Dataset
from linearized.experiments import run as life
from linearized.experiments.kernel_record import outputs_of, scored
from linearized.experiments.path_solve import watched
from linearized.experiments.step_progress import progress_line
from linearized.kernel_ridge.centre_choice import CentreChoice
from linearized.kernel_ridge.nystrom import CentreRegression
from linearized.kernel_ridge.row_passes import RowPasses
from linearized.solvers.linear.driver import Watch

Ridges = Callable[[Any, Dataset, str, Callable[[], float]], np.ndarray]


def fitted(
    config: Any, level: int, dataset: Dataset, work: Path, kernel_of: Callable[[Any, Dataset], Any], ridges_of: Ridges,
    place: Here | OnWorkers,
) -> life.Outcome:  # fmt: skip
    """Fit kernel ridge regression on centres at every ridge, and return the record and the arrays of the result.

    The record is the content of `result.json`. It has the entries that `kernel_record.scored` returns, and an entry
    "centres" with these values:

    - `asked`: number of centres that the settings request.
    - `count`: number of centres that are used. Centres that depend linearly on others are left out.
    - `choice` and `seed`: rule by which the centres were chosen, and random-number seed of the choice.
    - `pool`: number of train rows among which the centres were chosen.
    - `trace`: trace of K, the kernel matrix between all train rows.
    - `lost`: fraction of this trace that the trace of the Nyström approximation of K lacks.

    The arrays contain `centres`, the indices of the centres among the train rows, and `alpha`, their coefficients.

    Args:
        config: `KernelFitSettings` of one noise level.
        level: Index of the noise level.
        dataset: Rows and labels.
        work: Folder of checkpoints of the unfinished run.
        kernel_of: Function of (settings, data set) that returns the kernel, with parameters such as a bandwidth
            computed from the train rows.
        ridges_of: Function of (settings, data set, scale of the kernel's inputs, function that returns the trace of K)
            that returns the ridges ρ.
        place: Object that computes blocks of rows, from `linearized.cluster.tiles.places`.
    """
    start, x, name = time.monotonic(), np.asarray(dataset.train.x), config.label()
    kernels = (kernel_of(config, dataset), kernel_of(dataclasses.replace(config, dtype="float64"), dataset))

    @contextlib.contextmanager
    def phase(what: str, total: int) -> Iterator[Callable[[int], None]]:
        logging.info("%s: %s, %d", name, what, total)
        with progress_line(f"{name}, {what}", total) as report:
            yield report

    watch = Watch(None, work, f"{dataset.fingerprint}-{config.key()}", config.checkpoint_seconds)
    fit = CentreRegression(
        *kernels, x, dataset.targets(dataset.train, centred=True),
        CentreChoice(config.centres, config.centre_choice, config.centre_seed), solver=config.solver,
        memory=working_bytes(config.memory), passes=RowPasses(watch, phase, place),
    )  # fmt: skip
    seconds = round(time.monotonic() - start, 3)
    ridges = ridges_of(config, dataset, fit.kernel.scale, lambda: fit.trace)
    with watched(config, dataset, ridges, work, solver=fit.solver, title=name) as watch:
        path = fit.solve(ridges, rtol=config.rtol or None, max_iterations=config.max_iterations,
                         progress=watch.progress)  # fmt: skip
    path = fit.completed(path)
    blocks = {split: fit.cross(split, np.asarray(rows.x)) for split, rows in dataset.splits().items()
              if split != "train"}  # fmt: skip
    outputs = outputs_of(dataset, path, blocks)
    record, arrays = scored(config, level, dataset, path, outputs, fit.kernel.scale)
    about = {
        "asked": config.centres, "count": len(fit.rows), "choice": config.centre_choice, "seed": config.centre_seed,
        "pool": fit.pool, "trace": fit.trace, "lost": fit.lost,
    }  # fmt: skip
    record["solver"]["history"] = "residual of the normal equations of the centres, relative"
    return life.Outcome({**record, "centres": about, "kernel": {"found": False, "seconds": seconds}},
                        {**arrays, "centres": fit.rows})  # fmt: skip
