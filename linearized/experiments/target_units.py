"""Standardisation of the regression targets of the user's own data for the training of networks.

The default learning rates, initial readouts and penalties suit targets of mean 0 and variance 1, and the data sets of
the suite. The user's own targets, such as prices, are standardised for training only, by their mean and standard
deviation over the train rows. Predictions, scores and the saved model are in the targets' own units.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from linearized.base.shapes import Float32
from linearized.data.dataset import Dataset, Split
from linearized.experiments.grids import OWN
from linearized.models import MODELS

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class TargetUnits:
    """Means and standard deviations of k regression targets, by which they are standardised and converted back.

    Attributes:
        offset: Mean of each target over the train rows.
        scale: Standard deviation of each target over the train rows; 1 for a target that is constant there.
    """

    offset: Float32[np.ndarray, " k"]
    scale: Float32[np.ndarray, " k"]

    @classmethod
    def of(cls, dataset: Dataset, config: Any) -> "TargetUnits | None":
        """Return the units of the regression targets of the user's own data.

        Args:
            dataset: Rows and targets.
            config: Settings model and init.

        Returns:
            The units; None for classes and for the suite's data sets. Also None for a model file that is trained
            further, because its outputs have the units of its earlier training.
        """
        if dataset.family != OWN or dataset.task != "regression":
            return None
        if MODELS.is_file(config.model) and config.init == "file":
            return None
        y = dataset.train.y.astype(np.float64)
        spread = y.std(axis=0)
        return cls(y.mean(axis=0).astype(np.float32), np.where(spread > 0, spread, 1.0).astype(np.float32))

    def standardised(self, dataset: Dataset) -> Dataset:
        """Return the dataset with targets (y - offset) / scale in every split."""
        splits = {name: Split(rows.x, (rows.y - self.offset) / self.scale) for name, rows in dataset.splits().items()}
        return dataclasses.replace(dataset, **splits)

    def restored(self, outputs: Float32[np.ndarray, "n k"]) -> Float32[np.ndarray, "n k"]:
        """Return the outputs (n, k) of a model of standardised targets, converted to the targets' own units."""
        return outputs * self.scale + self.offset

    def model(self, model: "keras.Model") -> "keras.Model":
        """Return a model whose outputs are in the targets' own units; it shares the weights of the given model.

        Args:
            model: Model of the standardised targets. A layer that computes `restored` is appended to it.
        """
        import keras

        own = keras.layers.Rescaling(self.scale.tolist(), self.offset.tolist(), dtype="float32", name="target_units")
        return keras.Model(model.inputs, own(model.outputs[0]), name=model.name)
