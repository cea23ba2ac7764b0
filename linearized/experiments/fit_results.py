"""Results: of a fit at one ridge, by any solver; of a run; and the entries of a record about its data."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from linearized.data.dataset import Dataset


@dataclasses.dataclass
class RidgeFit:
    """A model fitted at one ridge.

    Attributes:
        index: Index of the ridge in the published grid.
        ridge: The ridge λ.
        predictions: (rows, k) outputs by split: train, validation (if any), test.
        parameters: Argument of `set_parameters` of the model's module (linear models), or the model's weights in order.
        evidence: `converged`, `iterations`, and other diagnostics of the solver; plain values, ready for JSON.
        history: The solver's own measure at each iteration or epoch.
        seconds: Wall time; for solvers that solve all ridges at once, an equal share of the total.
        validation: Loss of the validation rows after each epoch; empty without such rows, and for linear solvers.
        tangents: Measurements of `--tangent_at`, see `linearized.experiments.tangent_measures`; None without it.
    """

    index: int
    ridge: float
    predictions: dict[str, np.ndarray]
    parameters: Any
    evidence: dict[str, Any]
    history: np.ndarray
    seconds: float
    validation: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    tangents: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """The folder of a run's result, and its record (`linearized.storage.results.load`)."""

    folder: Path
    record: dict[str, Any]
    fresh: bool  # False if the run was finished before and was read back

    @property
    def chosen(self) -> dict[str, Any]:
        """Return the metrics and diagnostics of the chosen ridge."""
        return self.record["ridges"][self.record["chosen"]["position"]]


def by_target(dataset: Dataset, predictions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the entry of a record with the mean square error of each target; {} unless there are several targets.

    The losses of a record are the sums of these terms over the targets.

    Args:
        dataset: Rows and labels.
        predictions: Outputs (n, k) at the chosen ridge by split.
    """
    if dataset.task != "regression" or dataset.num_outputs < 2:
        return {}
    losses = {name: np.square(split.y - predictions[name].astype(np.float64)).mean(axis=0).tolist()
              for name, split in dataset.splits().items()}  # fmt: skip
    return {"loss_by_target": losses}


def titled(words: str, dataset: Dataset) -> str:
    """Return the title of a record: the model, the data set, its noise, and the number of train rows."""
    return ", ".join(filter(None, (f"{words} on {dataset.name}", dataset.noise, f"n = {len(dataset.train)}")))


def about_data(dataset: Dataset) -> dict[str, Any]:
    """Return a record's entries about its data: name, fingerprint, sizes, noise as text, and the reader's notes."""
    rows = {f"n_{name}": len(split) for name, split in dataset.splits().items()}
    return {"name": dataset.name, "fingerprint": dataset.fingerprint, "dim": dataset.dim, **rows,
            "noise": dataset.noise, **dataset.notes}  # fmt: skip
