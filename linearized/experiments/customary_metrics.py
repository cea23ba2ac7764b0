"""Scores that are customary for a task in addition to loss and accuracy, such as those of GLUE (arXiv 1804.07461).

GLUE reports Matthews' correlation for CoLA, F1 of the positive class for MRPC and QQP, and Pearson's and Spearman's
correlations for STS-B.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from linearized.data.dataset import Dataset


def _constant(truth: np.ndarray, predicted: np.ndarray) -> bool:
    return bool(np.ptp(truth) == 0 or np.ptp(predicted) == 0)


def _pearson(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    return None if _constant(truth, predicted) else stats.pearsonr(truth, predicted).statistic


def _spearman(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    return None if _constant(truth, predicted) else stats.spearmanr(truth, predicted).statistic


def _f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    return f1_score(truth, predicted, pos_label=1, zero_division=0.0)


CLASS_METRICS: dict[str, Callable] = {"matthews": matthews_corrcoef, "f1": _f1}
VALUE_METRICS: dict[str, Callable] = {"pearson": _pearson, "spearman": _spearman}


def customary(dataset: Dataset, labels: np.ndarray, predictions: np.ndarray) -> dict[str, float | None]:
    """Compute the scores that are customary for a data set, such as F1.

    Args:
        dataset: Data set whose `metrics` are the names of its customary scores.
        labels: True class numbers or values, (n,).
        predictions: Model outputs (n, k): logits of k classes, or one value per row (k = 1).

    Returns:
        The scores by name: "matthews" (of classes; 0 if all predictions are equal), "f1" (of class 1), "pearson" and
        "spearman" (of values; None if labels or predictions are constant).
    """
    scores = {}
    for name in dataset.metrics:
        if name in CLASS_METRICS:
            score = CLASS_METRICS[name](labels.astype(int), predictions.argmax(axis=1))
        else:
            score = VALUE_METRICS[name](labels.astype(np.float64), predictions[:, 0].astype(np.float64))
        scores[name] = None if score is None else float(score)
    return scores
