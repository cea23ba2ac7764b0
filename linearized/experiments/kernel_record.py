"""Functions that build the record of a kernel's fit: scores at every ridge, the chosen ridge, the best linear fit.

The record is the content of `result.json`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from linearized.data.dataset import Dataset, Split
from linearized.experiments import select
from linearized.experiments.fit_results import about_data, by_target, titled
from linearized.experiments.linear_baseline import linear_baseline
from linearized.kernel_ridge.ridge_path import RidgePath
from linearized.settings.gram_settings import KernelSettings
from linearized.solvers.linear.solution import Solution

ALPHA_BYTES = 2**29  # size up to which the coefficients of all ridges are stored; above it those of the chosen ones are
ADVICE = "Raise --max_iterations, loosen --rtol, or take another --solver."


def scored(
    config: Any, level: int, dataset: Dataset, path: RidgePath, outputs: Mapping[str, np.ndarray], scale: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score the fits of a fixed kernel at every ridge, and return the record and the arrays of the result.

    Record (content of `result.json`) and arrays are those of `record_of`. The entry of each ridge additionally has the
    test loss that is predicted from the train rows by leave-one-out (`predicted_loss`) and by generalised
    cross-validation (`predicted_by_gcv`).

    Args:
        config: `KernelFitSettings`.
        level: Index of the noise level.
        dataset: Rows and labels.
        path: Solutions at every ridge.
        outputs: Outputs (ridges, rows, k) by the name of the split, as `outputs_of` returns them.
        scale: Scale of the kernel's inputs: "input" (raw) or "stax" (divided by √d or √channels).
    """
    record, arrays = record_of(config, level, dataset, path, outputs, scale)
    for entry in record["ridges"]:
        entry |= _predicted(entry, dataset.label_noise)
    return record, arrays


def _predicted(entry: Mapping[str, Any], noise: float) -> dict[str, float | None]:
    """Return predictions of the test loss at one ridge that are made from the train rows alone.

    One is the leave-one-out loss, with its standard error. The other is generalised cross-validation (GCV): the train
    loss divided by (1 - L/n)², where L is the number of degrees of freedom of the fit to n train rows. Both predict the
    loss on new rows whose labels have the noise of the train labels. Therefore the variance of the noise that test
    labels do not have is subtracted.

    Args:
        entry: Scores and diagnostics at the ridge, with `left_out_loss` and `gcv`, which are None if the solver does
            not compute them.
        noise: `Dataset.label_noise`, the variance of the noise that test labels do not have.

    Returns:
        `predicted_loss` (leave-one-out), `predicted_error` (its standard error), `predicted_normalised_loss` (divided
        by the loss of a constant) and `predicted_by_gcv`; None where not known.
    """
    found = {name: None if entry[source] is None else max(entry[source] - noise, 0.0)
             for name, source in (("predicted_loss", "left_out_loss"), ("predicted_by_gcv", "gcv"))}  # fmt: skip
    loss, normalised = entry["test_loss"], entry["test_normalised_loss"]
    scale = normalised / loss if loss and normalised is not None else None
    predicted = found["predicted_loss"]
    both = predicted is not None and scale is not None
    return {**found, "predicted_error": entry["left_out_error"],
            "predicted_normalised_loss": predicted * scale if both else None}  # fmt: skip


def label_offset(dataset: Dataset) -> float:
    """Return the constant that is subtracted from all labels before a kernel is fitted, such as 0.1 for ten classes."""
    offset = dataset.targets(dataset.train) - dataset.targets(dataset.train, centred=True)
    return float(offset[0, 0])


def outputs_of(dataset: Dataset, path: RidgePath, blocks: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs (ridges, rows, k) of the fitted functions by the name of the split, in units of the labels.

    Args:
        dataset: Rows and labels.
        path: Solutions at every ridge.
        blocks: K between the rows of a split and the train rows, by the name of the split; None for an empty split.
    """
    offset = label_offset(dataset)
    outputs = {"train": np.stack([solution.predictions for solution in path.solutions]) + offset}
    return outputs | {name: path.predict(block) + offset for name, block in blocks.items() if block is not None}


def entries_of(dataset: Dataset, path: RidgePath, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return one dictionary per ridge with the diagnostics of its solution and the scores on every split.

    Args:
        dataset: Rows and labels.
        path: Solutions at every ridge.
        outputs: Outputs (ridges, rows, k) by the name of the split, as `outputs_of` returns them.
    """
    entries = [_evidence(index, solution) for index, solution in enumerate(path.solutions)]
    for index, entry in enumerate(entries):
        for name, split in dataset.splits().items():
            entry |= _scores(name, outputs[name][index], split, dataset)
        without = path.solutions[index].leave_one_out
        if without is not None:
            predictions = dataset.targets(dataset.train) - without
            entry |= _scores("leave_one_out", predictions, dataset.train, dataset)
    return entries


def record_of(
    config: Any, level: int, dataset: Dataset, path: RidgePath, outputs: Mapping[str, np.ndarray], scale: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the record (content of `result.json`) and the arrays of a run, from a kernel's fits at every ridge.

    The record has all entries except those that `experiments.run` adds, such as the command line. Its `ridges` are the
    dictionaries of `entries_of`, each with the test loss divided by the test loss of the best linear fit.

    Args:
        config: `KernelFitSettings`.
        level: Index of the noise level.
        dataset: Rows and labels.
        path: Solutions at every ridge.
        outputs: Outputs (ridges, rows, k) by the name of the split, as `outputs_of` returns them.
        scale: Scale of the kernel's inputs: "input" (raw) or "stax" (divided by √d or √channels).
    """
    offset, entries = label_offset(dataset), entries_of(dataset, path, outputs)
    chosen, published = select.choose(entries, metric=config.choose_by), select.choose(entries, "test")
    if chosen.criterion == "gcv" and config.choose_by == "loss":
        logging.warning("%s: --choose_by=loss changed nothing: the ridge is chosen by generalised cross-validation, "
                        "which has a loss alone. Give --validation=0.2.", config.label())  # fmt: skip
    select.warn(config.label(), chosen, entries, ADVICE, symbol="ρ")
    select.warn_edge(config.label(), chosen, entries, len(entries), "Give others with --ridges.", symbol="ρ")
    linear = linear_baseline(dataset, chosen.criterion, chosen.metric)
    for entry in entries:
        loss, reference = entry["test_loss"], linear["test_loss"]
        entry["test_relative_risk"] = loss / reference if loss is not None and reference > 0 else None
    record = {
        "title": titled(config.label(), dataset),
        "settings": {**config.to_dict(), "noise_ind": level},
        "data": about_data(dataset),
        "model": {
            "name": f"{config.label()} kernel", "hidden_layers": hidden_layers(config), "scale": scale,
            "labels": f"coded as published, {offset:g} taken off; predictions have it added back",
        },
        "solver": {
            "name": path.solver, "reason": path.reason, "rtol": path.rtol, "step": "step",
            "history": "residual of (K + ρI)α = y, relative",
        },
        "ridge_unit": "ρ of (K + ρI)α = y; ρ/n is the λ of (1/n)‖Av - y‖² + λ‖v‖²",
        "ridge_symbol": "ρ",
        "ridges": entries,
        **select.recorded(chosen, entries, size=len(entries)),
        **select.recorded(published, entries, "chosen_published"),
        **by_target(dataset, {name: values[chosen.position] for name, values in outputs.items()}),
        "linear": {**linear, "by": select.CRITERIA[chosen.criterion]},
    }  # fmt: skip
    return record, _arrays(record, path, outputs)


def _arrays(record: dict[str, Any], path: RidgePath, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a result by name, and store in `record["alpha"]` for which ridges they contain coefficients.

    If the coefficients of all ridges take more than 512 MiB, only those at the chosen ridges are kept.

    Args:
        record: Record of the result with the chosen ridges; it is changed.
        path: Solutions at every ridge.
        outputs: Outputs (ridges, rows, k) by the name of the split.
    """
    position = record["chosen"]["position"]
    whole = path.alpha.nbytes <= ALPHA_BYTES
    kept = (
        range(len(path.ridges))
        if whole
        else sorted({record[name]["position"] for name in record if name.startswith("chosen")})
    )
    record["alpha"] = {"ridges": list(kept)}
    arrays = {"alpha": path.alpha[list(kept)]}
    arrays |= {f"predictions/{name}": values[position].astype(np.float32) for name, values in outputs.items()}
    arrays |= {f"history/{index:03d}": solution.history for index, solution in enumerate(path.solutions)}
    without = path.solutions[position].leave_one_out
    return arrays if without is None else {**arrays, "leave_one_out": without}


def _evidence(index: int, solution: Solution) -> dict[str, Any]:
    return {
        "index": index, "ridge": float(solution.ridge), "converged": bool(solution.converged),
        "iterations": int(solution.iterations), "residual": _finite(solution.residual), "diverged": False,
        "message": solution.message, "shift": float(solution.shift), "refinements": int(solution.refinements),
        "degrees_of_freedom": _finite(solution.degrees_of_freedom), "gcv": _finite(solution.gcv),
        "left_out_loss": _finite(solution.left_out_loss), "left_out_error": _finite(solution.left_out_error),
    }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _scores(name: str, predictions: np.ndarray, split: Split, dataset: Dataset) -> dict[str, float | None]:
    """Return losses, accuracy and R² of a model's outputs on a split, with keys that start with `name`.

    All of them are None if an output is not finite.

    Args:
        name: First part of the keys, such as "test".
        predictions: Outputs (n, k).
        split: Rows and labels.
        dataset: Data set that the split belongs to.
    """
    if not np.isfinite(predictions).all():
        return dict.fromkeys(f"{name}_{metric}" for metric in ("loss", "accuracy", "normalised_loss", "r2"))
    scores = dataset.score(split, predictions)
    normalised = scores["normalised_loss"]
    return {f"{name}_{metric}": value for metric, value in scores.items()} | {
        f"{name}_r2": None if normalised is None else 1 - normalised
    }


def hidden_layers(settings: KernelSettings) -> int | None:
    """Return the number of layers with a nonlinearity in the network to which the kernel belongs.

    Results store this number, so that kernels can be compared with networks of the same depth. It is None for kernels
    that do not belong to a network of known depth.
    """
    if settings.kernel == "NTK":
        return settings.num_layers
    if settings.kernel == "CNTK":
        return settings.depth - 1 if settings.head == "myrtle" else settings.depth
    return 1 if settings.kernel == "RF" else None
