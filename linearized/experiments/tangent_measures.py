"""Measurements of a network's tangent kernel on fixed rows during training (`--tangent_at`, `--tangent_rows`).

The rows are the first train and test rows of the run. After each selected epoch, the linearization of the network at
its present weights is fitted to these train rows, by kernel ridge regression with the kernel of
`linearized.tangents.training_kernel`. There are two fits:

- "linearization" has outputs that start at 0, and labels that are coded as for kernels (such as one-hot minus 1/k for k
  classes).
- "linearization_offset" adds the fitted function to the network's outputs at that epoch.

The ridge is the best by leave-one-out scores (`linearized.experiments.select`) among 19 values from 1e-8 to 10 times
the trace of the kernel. Measurements are stored on disk until the run is done.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset, Split
from linearized.experiments import select
from linearized.experiments.grids import OWN, kernel_grid
from linearized.kernel_ridge import ridge_path
from linearized.solvers.checkpoint import Checkpoint
from linearized.solvers.training import sgd
from linearized.tangents.comparison import centred_alignment, effective_rank, kernel_distance, label_alignment
from linearized.tangents.empirical import layer_features
from linearized.tangents.training_kernel import training_kernels

SCORED = ("network", "linearization", "linearization_offset", "last_layer")  # predictors with test scores


class TangentMeasures:
    """Measurements of a network and its tangent kernel after the epochs that the settings name.

    Args:
        config: Settings tangent_at, tangent_rows and loss.
        model: Network with its initial weights, with which later weights are compared.
        dataset: Data on which the network is trained.
        folder: Folder in which measurements are stored. Measurements that are stored there are not repeated.
        key: Text that identifies the run; measurements of other runs in the folder are ignored.
    """

    def __init__(self, config: Any, model: keras.Model, dataset: Dataset, folder: Path, key: str):
        self._epochs, self._at_end = config.tangent_epochs()
        self._loss, self._model = config.loss, model
        self.rows = probe(dataset, *config.tangent_counts())
        self._start = _by_layer(model)
        self._saved = Checkpoint(folder, key=key, tangents=config.tangent_rows)
        self._kernels: dict[int, dict[str, np.ndarray]] = {}

    def epoch_done(self, epoch: int) -> None:
        """Measure the model if `--tangent_at` names this epoch and no measurement of it is stored.

        Training calls this after each epoch.

        Args:
            epoch: Number of epochs that were done; 0: the initial weights.
        """
        if epoch in self._epochs:
            self._measure(epoch)

    def finished(self, last: int) -> dict[str, Any]:
        """Measure the trained model if `--tangent_at` names the end, and return all measurements as plain values.

        Args:
            last: Number of epochs that were done; measurements after later epochs are left out.

        Returns:
            The entries `rows`, the number of train and test rows, and `epochs`, one dictionary per measured epoch in
            increasing order.
        """
        asked = {epoch for epoch in self._epochs if epoch <= last}
        if self._at_end:
            self._measure(last)
            asked.add(last)
        found = [epoch for epoch in sorted(asked) if self._kernels_at(epoch) is not None]
        if missing := sorted(asked.difference(found)):
            logging.warning("measurements of the tangent kernel after epochs %s are lost", missing)
        entries = []
        for place in range(len(found)):
            here, before, first = (self._kernels_at(found[at]) for at in (place, max(place - 1, 0), 0))
            entries.append({**json.loads(str(here["measures"])), **_compared("start", here, first),
                            **_compared("previous", here, before)})  # fmt: skip
        return {"rows": {name: len(split) for name, split in self.rows.splits().items()}, "epochs": entries}

    def _kernels_at(self, epoch: int) -> dict[str, np.ndarray] | None:
        if epoch not in self._kernels and (arrays := self._saved.load(_name(epoch))) is not None:
            self._kernels[epoch] = arrays
        return self._kernels.get(epoch)

    def _measure(self, epoch: int) -> None:
        if self._kernels_at(epoch) is not None:
            return
        logging.info("epoch %d: the tangent kernel of %d train and %d test rows", epoch, len(self.rows.train),
                     len(self.rows.test))  # fmt: skip
        train, test = self.rows.train.x, self.rows.test.x
        kernel, cross = training_kernels(self._model, train, test)
        features, others = (layer_features(self._model, x).astype(np.float64) for x in (train, test))
        outputs = {name: sgd.predict(self._model, split.x) for name, split in self.rows.splits().items()}
        scores = {
            "network": self.rows.score("test", outputs["test"], loss=self._loss),
            "linearization": kernel_scores(kernel, cross, self.rows),
            "linearization_offset": kernel_scores(kernel, cross, self.rows, outputs) if self._loss == "square" else {},
            "last_layer": kernel_scores(features @ features.T, others @ features.T, self.rows),
        }
        if self._loss != "square":
            scores["network"] = {**scores["network"], "loss": None}  # on another scale than that of the kernels
        measures = {
            "epoch": epoch, "label_alignment": label_alignment(kernel, self.rows.targets(self.rows.train)),
            "effective_rank": effective_rank(kernel), "weight_change": self._weight_change(),
            **{f"{who}_{what}": scores[who].get(what) for who in SCORED for what in ("accuracy", "loss")},
        }  # fmt: skip
        arrays = {"kernel": kernel, "features": (features @ features.T).astype(np.float32)}
        self._kernels[epoch] = {**arrays, "measures": np.array(json.dumps(measures))}
        self._saved.save(_name(epoch), self._kernels[epoch])

    def _weight_change(self) -> dict[str, float | None]:
        """Return ‖W - W₀‖/‖W₀‖ of each layer for its weights W and initial weights W₀; None if W₀ is 0."""
        now, change = _by_layer(self._model), {}
        for layer, start in self._start.items():
            size = float(np.linalg.norm(start))
            change[layer] = float(np.linalg.norm(now[layer] - start)) / size if size else None
        return change


def probe(dataset: Dataset, train: int, test: int) -> Dataset:
    """Return the dataset with at most the first `train` train rows and `test` test rows, without validation rows.

    Tangent kernels are measured on these few rows.
    """
    parts = {"train": (dataset.train, train), "test": (dataset.test, test)}
    return dataclasses.replace(
        dataset, validation=None, **{name: Split(np.asarray(split.x[:count]), split.y[:count])
                                     for name, (split, count) in parts.items()},
    )  # fmt: skip


def kernel_scores(
    kernel: np.ndarray, cross: np.ndarray, rows: Dataset, start: dict[str, np.ndarray] | None = None
) -> dict[str, float | None]:
    """Fit kernel ridge regression to train rows, and return its loss and accuracy on test rows.

    The ridge is chosen by leave-one-out scores, as the module's docstring describes.

    Args:
        kernel: K between the n train rows, (n, n).
        cross: K between the m test rows and the train rows, (m, n).
        rows: Train and test rows with their labels.
        start: Outputs of a model by split ("train", "test"), to which the outputs of the kernel are added; None: there
            is no model, and labels are coded as for kernels (`Dataset.targets`, centred).

    Returns:
        Scores of `Dataset.score`; {} if no ridge could be solved, such as for a kernel that is 0.
    """
    y = rows.targets(rows.train)
    if start is None:
        shift = y - rows.targets(rows.train, centred=True)
        before = {"train": shift, "test": np.broadcast_to(shift[:1], (len(rows.test), shift.shape[1]))}
    else:
        before = start
    wide = kernel.astype(np.float64)
    wide = (wide + wide.T) / 2
    if not np.isfinite(wide).all() or not (trace := float(np.trace(wide))) > 0:
        return {}
    path = ridge_path.fit(wide, y - before["train"], kernel_grid(OWN, trace=trace), solver="eigh")
    outputs, entries = path.predict(cross.astype(np.float64)) + before["test"], []
    for solution, values in zip(path.solutions, outputs, strict=True):
        without = solution.leave_one_out
        solved = without is not None and np.isfinite(without).all() and np.isfinite(values).all()
        found = rows.score("train", y - without) if solved else {"loss": None, "accuracy": None}
        entries.append({"leave_one_out_loss": found["loss"], "leave_one_out_accuracy": found["accuracy"]})
    try:
        best = select.choose(entries, "leave_one_out").position
    except UserError:  # no ridge could be solved
        return {}
    return rows.score("test", outputs[best].astype(np.float32))


def _compared(name: str, here: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        f"distance_from_{name}": kernel_distance(here["kernel"], other["kernel"]),
        f"alignment_with_{name}": centred_alignment(here["kernel"], other["kernel"]),
        f"features_alignment_with_{name}": centred_alignment(here["features"], other["features"]),
    }


def _by_layer(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the trainable weights of each layer as one vector, by the path of the layer."""
    found: dict[str, list[np.ndarray]] = {}
    for variable in model.trainable_variables:
        values = np.array(keras.ops.convert_to_numpy(variable.value), np.float64).ravel()
        found.setdefault(variable.path.rpartition("/")[0] or variable.path, []).append(values)
    return {layer: np.concatenate(values) for layer, values in found.items()}


def _name(epoch: int) -> str:
    return f"tangents_{epoch:06d}"
