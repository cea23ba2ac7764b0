"""Losses and accuracies of rows for training, as functions of the targets y and the outputs f.

There are three formulas ("kinds") of the loss: "square" is ‖y - f‖², "softmax" is the cross-entropy of k classes, and
"sigmoid" is the cross-entropy of a binary label. For the cross-entropies, f are logits.
"""

import keras
from keras import ops

from linearized.base.errors import UserError

LOSSES = ("square", "cross_entropy")
KINDS = ("square", "softmax", "sigmoid")


def loss_kind(loss: str, task: str) -> str:
    """Return the formula of a loss for a task: "square", "softmax" (classes) or "sigmoid" (binary).

    Args:
        loss: "square" or "cross_entropy".
        task: Task of the dataset: "regression", "classes" or "binary".

    Raises:
        UserError: For cross-entropy on regression, and for an unknown loss.
    """
    if loss not in LOSSES:
        raise UserError(f"Unknown loss {loss!r}. The choices are: {', '.join(LOSSES)}.")
    if loss == "square":
        return "square"
    if task == "regression":
        raise UserError("Cross-entropy needs class labels. Use --loss=square for regression.")
    return "softmax" if task == "classes" else "sigmoid"


def threshold(kind: str) -> float:
    """Return the value above which a single output means label 1: 0 for a logit (kind "sigmoid"), otherwise ½."""
    return 0.0 if kind == "sigmoid" else 0.5


def row_losses(kind: str, y, f):
    """Return the loss of each row, (n,), in the dtype of the outputs.

    Args:
        kind: Formula of the loss: "square", "softmax" or "sigmoid".
        y: Targets (n, k), a tensor of any backend.
        f: Outputs (n, k); logits for "softmax" and "sigmoid".
    """
    y = ops.cast(y, f.dtype)
    if kind == "square":
        return ops.sum(ops.square(y - f), axis=-1)
    if kind == "softmax":
        return ops.categorical_crossentropy(y, f, from_logits=True)
    return ops.sum(ops.binary_crossentropy(y, f, from_logits=True), axis=-1)


def row_hits(kind: str, y, f):
    """Return 1 for each correctly labelled row, else 0, (n,): by argmax, or by `threshold` for a single output.

    Args:
        kind: Formula of the loss: "square", "softmax" or "sigmoid".
        y: Targets (n, k).
        f: Outputs (n, k).
    """
    if f.shape[-1] > 1:
        hits = ops.equal(ops.argmax(y, axis=-1), ops.argmax(f, axis=-1))
    else:
        hits = ops.equal(y[..., 0] > 0.5, f[..., 0] > threshold(kind))
    return ops.cast(hits, "float32")


@keras.saving.register_keras_serializable("linearized")
class RowLoss(keras.losses.Loss):
    """Keras loss: the mean of `row_losses` over the rows of a batch.

    Args:
        kind: Formula of the loss: "square", "softmax" or "sigmoid".
        name: Name of the loss.
        smoothing: ε of label smoothing. Targets y of k classes become (1 - ε) y + ε / k, with k = 2 for a binary label.
    """

    def __init__(self, kind="square", name="row_loss", smoothing=0.0, **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 <= smoothing < 1:
            raise ValueError(f"`smoothing` must be from 0 to below 1. Received: smoothing={smoothing}.")
        self.smoothing = smoothing
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={kind!r}.")
        self.kind = kind

    def call(self, y_true, y_pred):
        """Return the loss of each row for targets and outputs (n, k), after label smoothing, (n,)."""
        if self.smoothing:
            classes = max(y_pred.shape[-1], 2)
            y_true = (1 - self.smoothing) * ops.cast(y_true, y_pred.dtype) + self.smoothing / classes
        return row_losses(self.kind, y_true, y_pred)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "kind": self.kind, "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("linearized")
class RowMean(keras.metrics.Mean):
    """Keras metric: the mean over all rows of the loss (without penalty and label smoothing), or the accuracy.

    Args:
        kind: Formula of the loss: "square", "softmax" or "sigmoid".
        what: "loss" or "accuracy".
        name: Name of the metric; None: `what`.
        dtype: Data type of the computation, as in Keras.
    """

    def __init__(self, kind="square", what="loss", name=None, dtype=None):
        super().__init__(name=name or what, dtype=dtype)
        if kind not in KINDS or what not in ("loss", "accuracy"):
            raise ValueError(f"Unknown `kind` or `what`. Received: kind={kind!r}, what={what!r}.")
        self.kind, self.what = kind, what

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add the rows of a batch to the mean, with weights if there are any; Keras calls this after each batch."""
        f = ops.cast(y_pred, self.dtype)
        rows = (row_losses if self.what == "loss" else row_hits)(self.kind, ops.cast(y_true, self.dtype), f)
        return super().update_state(rows, sample_weight=sample_weight)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"name": self.name, "dtype": self.dtype, "kind": self.kind, "what": self.what}
