"""Losses and accuracies of a model's outputs; the ridge penalty is not included.

The loss is the square loss or the cross-entropy. The predicted class is the argmax of several outputs, or one output is
compared with a threshold. The square loss and both accuracies are those of Ghorbani et al. (arXiv 2006.13409).
"""

import numpy as np

from linearized.base.errors import UserError

LOSSES = ("square", "cross_entropy")


def evaluate(
    predictions: np.ndarray, targets: np.ndarray, task: str, *, loss: str = "square"
) -> dict[str, float | None]:
    """Return the loss and the accuracy of a model's outputs.

    Args:
        predictions: Outputs of a model (n, k).
        targets: Targets (n, k) as `Dataset.targets` returns them, not centred: one-hot rows for "classes", 0 or 1 for
            "binary".
        task: "classes", "binary" or "regression".
        loss: "square", or "cross_entropy" if predictions are logits.

    Returns:
        `loss`: the mean over rows of ‖y - f‖² for targets y and outputs f, or of the cross-entropy of the logits f.

        `accuracy`: the fraction of rows whose predicted class equals the target class. For "classes" the predicted
            class is the argmax of the k outputs f. For "binary" it is 1 if the single output f is above a threshold,
            otherwise 0; the threshold is ½ for the square loss and 0 for the cross-entropy, where f is a logit. None
            for "regression".

        `normalised_loss`: the square loss divided by the variance of y, which is the loss of the best constant
            function. None for the cross-entropy, and if y is the same for all rows.

    Raises:
        ValueError: The predictions do not have the shape of the targets.
        UserError: A prediction is not finite, or `loss` is "cross_entropy" for regression.
    """
    if predictions.shape != targets.shape:
        raise ValueError(f"Predictions must have the targets' shape {targets.shape}. Received: {predictions.shape}.")
    if not np.isfinite(predictions).all():
        raise UserError("The predictions are not finite. Lower --learning_rate or raise the ridge.")
    values = predictions.astype(np.float64)
    classes = targets.argmax(axis=1) if task == "classes" else targets[:, 0]
    if loss == "square":
        rows = np.square(targets - values).sum(axis=1)
        variance = np.square(targets - targets.mean(axis=0, dtype=np.float64)).sum(axis=1).mean()
        normalised = float(rows.mean() / variance) if variance > 0 else None
    elif task == "regression":
        raise UserError("Cross-entropy needs class labels. Use --loss=square for regression.")
    elif task == "binary":
        rows, normalised = np.logaddexp(0, values[:, 0]) - classes * values[:, 0], None
    else:
        from scipy.special import log_softmax  # here, so that imports of the losses' names stay fast

        rows, normalised = -log_softmax(values, axis=1)[np.arange(len(classes)), classes], None
    if task == "regression":
        accuracy = None
    elif task == "binary":
        accuracy = float(((values[:, 0] > (0.5 if loss == "square" else 0.0)) == (classes == 1)).mean())
    else:
        accuracy = float((values.argmax(axis=1) == classes).mean())
    return {"loss": float(rows.mean()), "accuracy": accuracy, "normalised_loss": normalised}
