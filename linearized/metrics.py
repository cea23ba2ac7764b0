"""Losses and accuracies as published: mean squared norm or cross-entropy, argmax or threshold; without the penalty."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax

from data.dataset import Dataset, Split
from data.errors import UserError

LOSSES = ("square", "cross_entropy")


def evaluate(
    predictions: np.ndarray, split: Split, dataset: Dataset, *, loss: str = "square"
) -> dict[str, float | None]:
    """Scores predictions (n, k) on a split.

    Returns: `loss`, the mean over rows of ‖y - f‖² (one-hot y for classes) or of the cross-entropy of the logits f;
        `accuracy` by argmax over classes, for binary labels by f > ½ (square) or f > 0 (logits), None for regression;
        `normalised_loss`, the square loss over the variance of y (that of the best constant), None for other losses.

    Raises `UserError` if a prediction is not finite: NaN never travels silently.
    """
    targets = dataset.targets(split)
    if predictions.shape != targets.shape:
        raise ValueError(f"Predictions must have the targets' shape {targets.shape}. Received: {predictions.shape}.")
    if not np.isfinite(predictions).all():
        raise UserError("The predictions are not finite. Lower --learning_rate or raise the ridge.")
    values = predictions.astype(np.float64)
    classes = split.y[:, 0].astype(int)
    if loss == "square":
        rows = np.square(targets - values).sum(axis=1)
        variance = np.square(targets - targets.mean(axis=0, dtype=np.float64)).sum(axis=1).mean()
        normalised = float(rows.mean() / variance) if variance > 0 else None
    elif dataset.task == "regression":
        raise UserError("Cross-entropy needs class labels. Use --loss=square for regression.")
    elif dataset.task == "binary":
        rows, normalised = np.logaddexp(0, values[:, 0]) - classes * values[:, 0], None
    else:
        rows, normalised = -log_softmax(values, axis=1)[np.arange(len(classes)), classes], None
    if dataset.task == "regression":
        accuracy = None
    elif dataset.task == "binary":
        accuracy = float(((values[:, 0] > (0.5 if loss == "square" else 0.0)) == (classes == 1)).mean())
    else:
        accuracy = float((values.argmax(axis=1) == classes).mean())
    return {"loss": float(rows.mean()), "accuracy": accuracy, "normalised_loss": normalised}


def best(entries: Sequence[Mapping[str, Any]], rule: str) -> int:
    """The position of the best ridge: by the highest accuracy on `rule`, ties and regression by the lowest loss.

    Args:
        entries: A ridge each, with `{rule}_loss` and `{rule}_accuracy` (None for regression), or `gcv`.
        rule: validation, leave_one_out, test, or gcv, which is a loss alone. Entries that lack it, or that are said not
            to have converged while others have, are passed over.
    """
    loss = "gcv" if rule == "gcv" else f"{rule}_loss"
    told = [place for place, entry in enumerate(entries) if entry.get(loss) is not None]
    if not told:
        raise UserError(f"No ridge could be solved well enough to be chosen by {rule.replace('_', ' ')}.")
    solved = [place for place in told if entries[place].get("converged", True)] or told
    return min(solved, key=lambda place: (-(entries[place].get(f"{rule}_accuracy") or 0.0), entries[place][loss]))
