"""What a fit at one ridge hands back, whichever solver made it; what a run hands back, and says of its data."""

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
        index, ridge: Place in the published grid, and λ.
        predictions: (rows, k) outputs by split: train, validation (if any), test.
        parameters: What `set_parameters` of the model's module takes (linear models), or the model's weights in order.
        evidence: `converged`, `iterations`, and what else the solver says of itself; plain values, ready for JSON.
        history: The solver's own measure at each iteration or epoch.
        seconds: Wall time, of the whole grid's share for solvers that solve all ridges at once.
        validation: Loss of the validation rows after each epoch; empty without such rows, and for linear solvers.
        tangents: What `--tangent_at` measured, see `linearized.experiments.tangent_measures`; None without it.
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
    """Where a run's result lies, and its record (`linearized.storage.results.load`)."""

    folder: Path
    record: dict[str, Any]
    fresh: bool  # False: the run had been finished before, and was read back

    @property
    def chosen(self) -> dict[str, Any]:
        """The metrics and evidence of the chosen ridge."""
        return self.record["ridges"][self.record["chosen"]["position"]]


def by_target(dataset: Dataset, predictions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the entry of a record that has the mean square error of each target; {} unless there are several.

    The losses of a record are sums over the targets, of which these are the terms.

    Args:
        predictions: Outputs (n, k) at the chosen ridge by split.
    """
    if dataset.task != "regression" or dataset.num_outputs < 2:
        return {}
    losses = {name: np.square(split.y - predictions[name].astype(np.float64)).mean(axis=0).tolist()
              for name, split in dataset.splits().items()}  # fmt: skip
    return {"loss_by_target": losses}


def titled(words: str, dataset: Dataset) -> str:
    """Return the title of a record: what was fitted, on which data at which noise, to how many rows."""
    return ", ".join(filter(None, (f"{words} on {dataset.name}", dataset.noise, f"n = {len(dataset.train)}")))


def about_data(dataset: Dataset) -> dict[str, Any]:
    """Return what a record holds of its data: name, fingerprint, sizes, noise in words, and the reader's notes."""
    rows = {f"n_{name}": len(split) for name, split in dataset.splits().items()}
    return {"name": dataset.name, "fingerprint": dataset.fingerprint, "dim": dataset.dim, **rows,
            "noise": dataset.noise, **dataset.notes}  # fmt: skip
