"""The function `load`, which returns a data set, with or without added noise, as arrays of inputs and labels.

No module of this package imports a deep-learning framework.
"""

import os
from pathlib import Path
from typing import Any

from linearized.base.errors import UserError, shown
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.settings.data_settings import DATASETS, PreprocessedRows
from linearized.settings.keywords import from_keywords

__all__ = ["DATASETS", "Dataset", "load"]

_OF_PATHS = "./:,"  # characters that do not occur in the name of a data set of the suite


def load(name: Any, noise_ind: int = 0, *, directory: Path | str | None = None, **settings: Any) -> Dataset:
    """Load a data set at a noise level: a built-in one, such as "FMNIST", or your own.

    Noisy images of built-in data sets are stored in a cache on disk, from which later calls read them.

    Args:
        name: One of `DATASETS`. For your own data, a value of the flag --data: the path of a file or of a folder of
            images, or another name such as `keras:mnist`.
        noise_ind: Index of the noise level, from 0 (`linearized data` lists the levels).
        directory: Folder of the raw files and the cache of a built-in data set; None: the folder that
            `directories.txt` names.
        **settings: For a built-in data set, the selection of rows (`num_train`, `num_test`, `validation`, `subset`,
            `seed`, see `linearized.data.source.Source.load`) and settings of this data set. For your own data, every
            flag of the group Data, such as `target`, `test_fraction` or `preprocess`.

    Raises `UserError` for errors that a user can correct: unknown names of data sets and settings, an index out of
    range, missing or damaged files.

    Example:
        >>> import linearized
        >>> digits = linearized.load("DIGITS")
        >>> digits.train.x.shape, digits.train.y.shape, digits.test.x.shape
        ((1437, 64), (1437,), (360, 64))
    """
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(name, str):
        raise UserError(f"load takes the name of a data set or a path; linearized.from_arrays takes arrays. Received: "
                        f"{shown(name)}.")  # fmt: skip
    if name in DATASETS or not (set(name) & set(_OF_PATHS) or Path(name).exists()):
        return DATASETS.load(name).load(noise_ind, directory=directory, **settings)
    if directory is not None:
        raise UserError(f"directory= is for published data sets; {name!r} names its own place.")
    rows = from_keywords(PreprocessedRows, "linearized.load", {"data": name, **settings}, own="noise_ind and ")
    return load_preprocessed(rows, noise_ind)
