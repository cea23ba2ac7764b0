"""Curves of the test loss and accuracy for TensorBoard, next to the curves of training that Keras writes."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from linearized.data.dataset import Dataset


class TestCurves(keras.callbacks.Callback):
    """Keras callback that writes the loss and the accuracy of the test rows to TensorBoard's logs after each epoch.

    The curves have the tags `epoch_row_loss` and `epoch_row_accuracy` of Keras' own curves, so that TensorBoard draws
    them in the same panels. The cost is one prediction of the test rows per epoch.

    Args:
        dataset: Dataset whose test split is scored; regression has no accuracy.
        loss: "square" or "cross_entropy".
        folder: Folder of the log files, next to the folder "train" that Keras writes.
        predict: Function from a model and rows (n, d) to outputs (n, k).
    """

    __test__ = False  # keeps pytest from collecting this class

    def __init__(self, dataset: Dataset, loss: str, folder: Path, predict: Callable[..., np.ndarray]):
        super().__init__()
        self.dataset, self.loss, self.folder, self.predicted = dataset, loss, folder, predict
        self.writer = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Predict the test rows and write their scores; Keras calls this after each epoch, numbered from 0."""
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
        """Write buffered scores to disk; Keras calls this at the end of training."""
        if self.writer is not None:
            self.writer.flush()
