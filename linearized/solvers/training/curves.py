"""Test curves for TensorBoard: loss and accuracy of the test rows after each epoch, next to those of training."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from linearized.data.dataset import Dataset


class TestCurves(keras.callbacks.Callback):
    """Callback that writes `epoch_row_loss` and `epoch_row_accuracy` of the test rows, the tags of Keras' own curves.

    Args:
        dataset: Dataset whose test split is scored; regression has no accuracy.
        loss: "square" or "cross_entropy".
        folder: Folder of the events, next to Keras' "train".
        predict: Function from a model and rows (n, d) to outputs (n, k).

    Costs one prediction of the test rows per epoch.
    """

    __test__ = False  # keeps pytest from collecting this class

    def __init__(self, dataset: Dataset, loss: str, folder: Path, predict: Callable[..., np.ndarray]):
        super().__init__()
        self.dataset, self.loss, self.folder, self.predicted = dataset, loss, folder, predict
        self.writer = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the scores of the test rows."""
        import tensorflow as tf

        outputs = self.predicted(self.model, self.dataset.test.x)
        if not np.isfinite(outputs).all():
            return  # the run stops here with a message of its own
        scores = self.dataset.score("test", outputs, loss=self.loss)
        self.writer = self.writer or tf.summary.create_file_writer(str(self.folder))
        with self.writer.as_default():
            for name in ("loss", "accuracy"):
                if scores.get(name) is not None:
                    tf.summary.scalar(f"epoch_row_{name}", scores[name], step=epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Flush the events to disk."""
        if self.writer is not None:
            self.writer.flush()
