"""Run of a recursive feature machine (RFM, `linearized krr --kernel=RFM`), from settings and rows to the record.

A run tries one or several variants: combinations of options of the metric's update. All of them start from the fixed
kernel (iteration 0). Every iteration of every variant is a candidate, and the rule of `linearized.experiments.select`
chooses iteration and ridge together. A search (`--rfm_search`) then combines the best variants with other base kernels,
because a smooth kernel may have a far lower error in a metric that was learned with the Laplace kernel.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from kernel_gen.kernels.stretched import spectrum
from linearized.cluster.tiles import Here, OnWorkers
from linearized.data.dataset import Dataset
from linearized.experiments import run as life
from linearized.experiments import select
from linearized.experiments.feature_machine_iterations import Machine
from linearized.experiments.feature_machine_steps import bandwidth_of
from linearized.experiments.kernel_record import record_of
from linearized.kernel_ridge.learned_metric import Variant
from linearized.settings.feature_machine_settings import bandwidth_factors

POWERS = (1.0, 0.5)  # powers that --rfm_search tries
MOST_EIGENVALUES = 1000  # largest number of eigenvalues of the best metric that a record stores


def variants(config: Any) -> list[Variant]:
    """Return the variants of the metric's update that the settings select.

    There is one variant for each bandwidth factor of --rfm_bandwidths. With --rfm_search there are eight for each
    factor: all combinations of a diagonal or full metric, centred or uncentred gradients, and the powers 1 and 1/2.

    Args:
        config: `KernelFitSettings` of one noise level.
    """
    factors = bandwidth_factors(config)
    if not config.rfm_search:
        return [Variant(config.rfm_diagonal, config.rfm_centred, config.rfm_power, factor) for factor in factors]
    return [Variant(*one) for one in itertools.product((True, False), (True, False), POWERS, factors)]


def fitted(config: Any, level: int, dataset: Dataset, work: Path, place: Here | OnWorkers) -> life.Outcome:
    """Fit a feature machine to a dataset, and return its record and arrays.

    The record contains the scores at every ridge of the best iteration, as for other kernels, and under
    "feature_machine" the variants and the records of all iterations. The arrays contain the metric and the bandwidth of
    the best iteration. With --ansatz_model they also contain the diagonal of WWᵀ, scaled to mean 1, for the first-layer
    weights W of that network.

    Args:
        config: `KernelFitSettings` of one noise level.
        level: Noise level.
        dataset: Rows and labels.
        work: Folder of unfinished work.
        place: Object that computes blocks of rows, from `linearized.cluster.tiles.places`.

    Raises:
        UserError: If the fixed kernel (iteration 0) cannot be fitted. If a later iteration cannot be fitted, its
            variant ends with the iteration before.
    """
    machine = Machine(config, dataset, work, variants(config), place)
    steps = [step for number in range(len(machine.variants)) for step in machine.iterations(number)]
    for number in machine.carried(steps):
        steps += machine.iterations(number)
    flat = [(place, entry) for place, step in enumerate(steps) for entry in step["ridges"]]
    choice = select.choose([entry for _, entry in flat], metric=config.choose_by)
    best = flat[choice.position][0]
    found = machine.solution(steps[best]["variant"], steps[best]["iteration"])
    record, arrays = record_of(config, level, dataset, found.path, found.outputs, found.kernel.scale)
    if found.centres is not None:
        record, arrays = found.centres.added(record, arrays)
    shape = found.kernel.base.metric_shape or dataset.image_shape
    about = {"variants": [{**dataclasses.asdict(one), "name": str(one)} for one in machine.variants],
             "steps": steps, "best": best, "spectrum": spectrum(found.metric)[:MOST_EIGENVALUES].tolist(),
             "image_shape": None if shape is None else list(shape)}  # fmt: skip
    learned = {"metric": found.metric, "bandwidth": np.array([bandwidth_of(found.kernel) or np.nan])}
    if machine.weights is not None and len(machine.weights) == len(found.metric):
        strengths = np.square(machine.weights).sum(axis=1)
        learned["network"] = strengths / max(strengths.mean(), np.finfo(float).tiny)
    arrays |= {f"feature_machine/{name}": value for name, value in learned.items()}
    return life.Outcome({**record, "feature_machine": about}, arrays)
