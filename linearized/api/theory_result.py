"""Result of `linearized.theory`: predictions at any n and ridge, and a table of predictions next to measurements."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linearized.experiments.fit_results import Result
from linearized.experiments.theory import load_arrays
from linearized.learning_theory.eigenframework import Prediction, predict


class TheoryResult:
    """Result of `linearized.theory`: the spectrum of a kernel on N rows (the pool), predicted losses and measured ones.

    Attributes:
        config: Settings of the run.
        folder: Folder of the result.
        record: Contents of `theory.json` in that folder, see `linearized.experiments.theory_record.compared`.
    """

    def __init__(self, config: Any, result: Result):
        """Store the settings `config` of a finished run and its `result`, which names the folder and has the record."""
        self.config, self.folder, self.record = config, Path(result.folder), result.record

    @property
    def table(self) -> pd.DataFrame:
        """Table with one row per number of train rows and ridge: predicted, measured, leave-one-out and GCV losses.

        GCV is generalised cross-validation. The columns are described in
        `linearized.experiments.theory_record.compared`.
        """
        return pd.DataFrame(self.record["points"])

    @property
    def best(self) -> pd.DataFrame:
        """The learning curve: the rows of `table` at the ridge with the smallest predicted loss.

        There is one row for each number of train rows, which has a best ridge of its own.
        """
        return self.table.iloc[self.record["best"]].reset_index(drop=True)

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return load_arrays(self.folder)

    @property
    def eigenvalues(self) -> np.ndarray:
        """The eigenvalues of K/N, for the kernel K (N, N) between the rows of the pool, in decreasing order."""
        return self._arrays["eigenvalues"]

    @property
    def coefficients(self) -> np.ndarray:
        """The coefficients of the targets in the basis of the eigenvectors of K, divided by √N: (N, k) for k outputs.

        The squares in a column sum to the mean square of the targets of that output over the pool.
        """
        return self._arrays["coefficients"]

    def predict(self, n: int, ridge: float) -> Prediction:
        """Predict the mean square errors of each output for n train rows at one ridge.

        Args:
            n: Number of train rows, at most the pool's N.
            ridge: ρ of (K + ρI)α = y, at least 0; not divided by n.

        Returns:
            The predicted errors on new rows and on train rows, with the effective ridge and the degrees of freedom.

        Raises:
            UserError: If `n` or `ridge` is outside these limits.
        """
        return predict(self.eigenvalues, self.coefficients, n, ridge, pool=self.record["pool"])

    def plot(self) -> Any:
        """Return the Matplotlib figure of the result: learning curve, ridges, learnabilities and spectrum.

        It is the picture that `linearized theory` draws.
        """
        from linearized.report.theory_plots import theory_figure

        return theory_figure(self.record, self._arrays)
