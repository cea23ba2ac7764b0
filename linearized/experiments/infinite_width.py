"""Test scores of the tangent kernel of an infinitely wide network, for comparison with a network of finite width.

The scores are computed on the rows of `linearized.experiments.tangent_measures`. The Gram matrix is read from its
folder, or computed by `python -m kernel_gen` if it does not exist.
"""

import dataclasses
from typing import Any

import numpy as np
from absl import logging

from linearized.base.errors import TryLater, UserError
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.experiments.tangent_measures import kernel_scores
from linearized.kernel_ridge.gram_source import find_or_make
from linearized.settings.data_settings import PreprocessedRows
from linearized.settings.gram_settings import GramSettings


def infinite_width(config: Any, flags: dict[str, Any], rows: Dataset) -> dict[str, Any] | None:
    """Return the test scores of kernel ridge regression with a network's infinite-width tangent kernel.

    Args:
        config: `TrainSettings` of the network, which determine the rows.
        flags: Flags of the kernel by name, as `Declaration.infinite` of the network returns them.
        rows: Train and test rows, as the network receives them.

    Returns:
        The name of the kernel (`kernel`), and `accuracy` and `loss` on the test rows; None if the kernel is not
        available, which is logged.

    Raises:
        TryLater: While another process computes the same kernel.
    """
    try:
        settings = _settings(config, flags, rows)
        same = load_preprocessed(settings, settings.noise_ind)
        for mine, theirs in zip(rows.splits().values(), same.splits().values(), strict=True):
            if not np.array_equal(mine.x, theirs.x):
                logging.warning("no kernel of infinite width: with fewer rows, --preprocess or noise changes the rows")
                return None
        gram, _ = find_or_make(settings, same)
    except TryLater:
        raise
    except UserError as error:
        logging.warning("no kernel of infinite width: %s", error)
        return None
    scores = kernel_scores(gram.to_memory(), gram.test.to_memory(), rows)
    return {"kernel": settings.label(), "accuracy": scores.get("accuracy"), "loss": scores.get("loss")}


def _settings(config: Any, flags: dict[str, Any], rows: Dataset) -> GramSettings:
    """Return the settings of the infinite-width kernel between the first train and test rows of a run.

    Args:
        config: `TrainSettings` of the network, which determine the rows.
        flags: Flags of the kernel by name.
        rows: Train and test rows of the measurement; only their numbers are used.
    """
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(PreprocessedRows)}
    counts = {"num_train": len(rows.train), "num_test": len(rows.test), "validation": 0.0}
    values = {**shared, **counts, **flags, "noise_ind": config.level()}
    draft = GramSettings.draft(**values)
    return GramSettings(**{name: value for name, value in values.items() if draft.reads(name)})
