"""Data classes for the fit at one ridge and for the result of a run, and functions that describe data in a record.

The record of a run is the dictionary that is stored as its `result.json`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from linearized.data.dataset import Dataset


@dataclasses.dataclass
class RidgeFit:
    """Model fitted at one ridge.

    Attributes:
        index: Index of the ridge in the model's whole grid.
        ridge: The ridge λ.
        predictions: Outputs (rows, k) by split: train, validation (if any), test.
        parameters: Trained parameters. For least squares they are in the form that `set_parameters` of the model's
            module accepts, or a function that computes them when they are needed. For models trained by gradients they
            are the list of the model's weights.
        evidence: `converged`, `iterations`, and other diagnostics of the solver; plain values, ready for JSON.
        history: Relative residual at each iteration of a least-squares solver, or train loss at each epoch.
        seconds: Wall time; for solvers that solve all ridges at once, an equal share of the total.
        validation: Loss of the validation rows after each epoch; empty without such rows, and for least squares.
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

    def fitted(self) -> Any:
        """Return `parameters`. If it is a function that computes them, replace it by its return value first."""
        if callable(self.parameters):
            self.parameters = self.parameters()
        return self.parameters


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of a run.

    Attributes:
        folder: Folder of the result.
        record: Contents of its `result.json` (see `linearized.storage.results.load`), or of the file that a command
            stores instead, such as `theory.json`.
        fresh: Whether this call did the work; False if the run had been finished before and was loaded.
    """

    folder: Path
    record: dict[str, Any]
    fresh: bool

    @property
    def chosen(self) -> dict[str, Any]:
        """The scores and diagnostics at the chosen ridge."""
        return self.record["ridges"][self.record["chosen"]["position"]]


def by_target(dataset: Dataset, predictions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the entry `loss_by_target` of a record: the mean square error of each regression target by split.

    The losses of a record are the sums of these numbers over the targets. The result is empty for classes and for a
    single target.

    Args:
        dataset: Rows and labels.
        predictions: Outputs (n, k) at the chosen ridge, by the name of the split.
    """
    if dataset.task != "regression" or dataset.num_outputs < 2:
        return {}
    losses = {name: np.square(split.y - predictions[name].astype(np.float64)).mean(axis=0).tolist()
              for name, split in dataset.splits().items()}  # fmt: skip
    return {"loss_by_target": losses}


def titled(words: str, dataset: Dataset) -> str:
    """Return the title of a run: its model, data set and noise, and the number of train rows.

    Args:
        words: Name of the model.
        dataset: Data set, whose name, noise and number of train rows follow.
    """
    return ", ".join(filter(None, (f"{words} on {dataset.name}", dataset.noise, f"n = {len(dataset.train)}")))


def about_data(dataset: Dataset) -> dict[str, Any]:
    """Return the entries of a run's `result.json` that describe the data set.

    They are its name, its fingerprint (a digest of its content), the length of a row (`dim`), the number of rows of
    each split, the noise in words, and the data set's own `notes`.
    """
    rows = {f"n_{name}": len(split) for name, split in dataset.splits().items()}
    return {"name": dataset.name, "fingerprint": dataset.fingerprint, "dim": dataset.dim, **rows,
            "noise": dataset.noise, **dataset.notes}  # fmt: skip
