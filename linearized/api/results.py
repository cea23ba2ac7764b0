"""Results of `linearized.train` and `linearized.krr`: the record of a run, its table, and predictions for new rows."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.data.preparation import Preparation
from linearized.experiments.fit_results import Result
from linearized.models.row_shapes import first_weights
from linearized.settings.model_files import MODEL_FILE
from linearized.storage.results import load_arrays

_DIAGNOSTICS = ("shift", "refinements", "degrees_of_freedom", "gcv", "left_out_loss", "left_out_error", "message")


class _Run:
    """Base class of the results of finished runs: their table, the chosen ridge, and predictions for new rows.

    Attributes:
        config: Settings of the run.
        folder: Folder of the result.
        record: Contents of `result.json` in that folder.
    """

    def __init__(self, config: Any, result: Result, given: Preparation | None = None):
        """Store the result of a run.

        Args:
            config: Settings of the run.
            result: Folder and record of the run.
            given: Preprocessing that was applied to a `Dataset` before the run; it is the first step for new rows.
                None: there was none.
        """
        self.config, self.folder, self.record, self._given = config, Path(result.folder), result.record, given

    @property
    def table(self) -> pd.DataFrame:
        """Table with one row per ridge: the metrics of each split and the solver's diagnostics."""
        return pd.DataFrame(self.record["ridges"])

    @property
    def ridge(self) -> float:
        """The chosen ridge, in the unit of the column `ridge` of `table`: λ for models, ρ for kernels."""
        return self.record["ridges"][self.record["chosen"]["position"]]["ridge"]

    def plot(self) -> Any:
        """Return the Matplotlib figure of losses and accuracies against the ridge."""
        from linearized.report.ridge_plots import ridge_curves

        return ridge_curves(self.record)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions of the fit at the chosen ridge for new rows.

        Args:
            X: Rows as they were before preprocessing, an array or data frame with m rows.

        Returns:
            Labels (m,) in their original coding, or targets in the shape of the train targets.

        Raises:
            UserError: If the rows are not finite, or their length or columns differ from those of the train rows.
        """
        logits = getattr(self.config, "loss", "square") == "cross_entropy"
        labels = self._preparation.labels(self.decision(X), threshold=0.0 if logits else 0.5)
        if self._given is None or self._given.task == "regression":
            return labels[:, 0] if self._given is not None and self._given.flat and labels.shape[1:] == (1,) else labels
        return labels if self._given.classes is None else self._given.classes[labels]

    def decision(self, X: Any) -> np.ndarray:
        """Return the outputs (m, k) for new rows at the chosen ridge.

        Args:
            X: Rows as they were before preprocessing, an array or data frame with m rows.

        Returns:
            One column per class, a single one for binary tasks, or one per target.

        Raises:
            UserError: Under the same conditions as `predict`.
        """
        return self._outputs(self._preparation.inputs(X if self._given is None else self._given.inputs(X)))

    @cached_property
    def _dataset(self) -> Dataset:
        return load_preprocessed(self.config, self.config.level())

    @property
    def _preparation(self) -> Preparation:
        return self._dataset.preparation or Preparation(self._dataset.task, self._dataset.dim)


class TrainResult(_Run):
    """Result of `linearized.train`: a model that was fitted at every ridge of a grid."""

    @cached_property
    def model(self) -> Any:
        """The fitted `keras.Model` at the chosen ridge, loaded from the folder of the result.

        Reading it raises `Absent` if the run was made with `no_model`.
        """
        from linearized.models.common import load

        return load(self.folder / MODEL_FILE)

    def _outputs(self, rows: np.ndarray) -> np.ndarray:
        from linearized.solvers.training.sgd import predict

        return predict(self.model, rows)


class KernelResult(_Run):
    """Result of `linearized.krr`: kernel ridge regression at every ridge of a grid.

    Predictions for new rows need the kernel function; for runs with `features` or `gram` they raise `UserError`.
    """

    @cached_property
    def path(self) -> "RidgePath":  # noqa: F821
        """The coefficients α (ridges, n, k) of (K + ρI)α = y and the solver's diagnostics, for each stored ridge.

        Here n is the number of train rows and k the number of outputs. All ridges are stored if α takes up to 512 MiB,
        otherwise only the chosen ones. `solutions` has one `linearized.solvers.linear.solution.Solution` per stored
        ridge, with iterations, residual, history and whether the solver converged. Its predictions are not stored and
        have the shape (0, k). Losses and accuracies are in `table`.
        """
        from linearized.kernel_ridge.ridge_path import RidgePath

        kept, solver = self.record["alpha"]["ridges"], self.record["solver"]
        ridges = np.array([self.record["ridges"][place]["ridge"] for place in kept])
        solutions = [self._solution(place, alpha) for place, alpha in zip(kept, self._alpha, strict=True)]
        return RidgePath(ridges, self._alpha, solutions, solver["name"], solver["reason"], solver["rtol"])

    def _solution(self, place: int, alpha: np.ndarray) -> "Solution":  # noqa: F821
        """Return the solution at one ridge, with the solver's diagnostics from the record and the arrays.

        Args:
            place: Index of the ridge in the record.
            alpha: Coefficients at this ridge, (n, k).
        """
        from linearized.solvers.linear.solution import Solution

        entry, names = self.record["ridges"][place], _DIAGNOSTICS
        residual = np.nan if entry["residual"] is None else entry["residual"]
        history, further = self._arrays[f"history/{place:03d}"], {name: entry[name] for name in names if name in entry}
        return Solution(
            entry["ridge"], alpha, entry["converged"], entry["iterations"], residual, history,
            np.zeros((0, alpha.shape[1])), **further,
        )  # fmt: skip

    @property
    def metric(self) -> np.ndarray:
        """The metric M (d, d) that a feature machine has learned, or its diagonal (d,).

        The kernel of a feature machine is k(√M x, √M z) for a base kernel k. Reading the metric of another kernel
        raises `UserError`.
        """
        if "feature_machine" not in self.record:
            raise UserError(f"A kernel of labels has a metric, such as RFM. Received: a run of {self.config.kernel}.")
        return self._arrays["feature_machine/metric"]

    def correlation_with(self, model: Any) -> float:
        """Return the correlation between the learned metric M of a feature machine and WWᵀ of a network's first layer.

        It is Pearson's correlation of the entries of M and WWᵀ or, if M is diagonal, of their diagonals. A value near 1
        means that the network and the kernel give the inputs similar weights.

        Args:
            model: Keras model that was trained on the same rows, such as `linearized.train("NN", data).model`. Its
                first weights W are (d, units); for a metric on patches, its first layer is a convolution whose filters
                have the size of the patches.

        Raises:
            UserError: If the kernel has no metric, or if the first weights of the model do not have as many inputs as
                M has rows.
        """
        from kernel_gen.kernels.stretched import correlation

        return correlation(self.metric, first_weights(model, len(self.metric)))

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return load_arrays(self.folder)

    @property
    def _alpha(self) -> np.ndarray:
        return self._arrays["alpha"]

    def _outputs(self, rows: np.ndarray) -> np.ndarray:
        """Return the outputs (m, k) of the fitted function at the chosen ridge for preprocessed rows (m, d).

        They are K(rows, train)α, plus the constant that was subtracted from the labels. With centres, α belongs to the
        centres instead of all train rows. K is computed in tiles during the product and is never in memory as a whole.

        Raises:
            UserError: For runs with `features` or `gram`.
        """
        if self.config.features or self.config.gram:
            raise UserError("Predictions of new rows need the kernel itself: leave out --features and --gram.")
        import kernel_gen
        from linearized.kernel_ridge.cross_kernel import CrossKernel
        from linearized.settings.gram_settings import KernelSettings

        names = [field.name for field in dataclasses.fields(KernelSettings)]
        settings = KernelSettings.draft(**{name: getattr(self.config, name) for name in names})
        module, train = kernel_gen.KERNELS.load(settings.kernel), self._dataset.train
        columns = np.asarray(train.x)
        if settings.by_labels():
            kernel = module.learned(settings, self.record, self._arrays, self._dataset)
        else:
            kernel = module.build(settings, self._dataset.image_shape).on(columns)
        if self.config.centres:
            columns = columns[self._arrays["centres"]]
        place = self.record["alpha"]["ridges"].index(self.record["chosen"]["position"])
        offset = self._dataset.targets(train) - self._dataset.targets(train, centred=True)
        return CrossKernel(kernel, rows, kernel.prepare(columns)) @ self._alpha[place] + float(offset[0, 0])
