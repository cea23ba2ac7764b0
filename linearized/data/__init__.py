"""Data sets at noise levels, as arrays with their labels and a fingerprint; no framework is imported."""

from pathlib import Path

from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.settings.data_settings import DATASETS, PreprocessedRows

__all__ = ["DATASETS", "Dataset", "load"]

_OF_PATHS = "./:,"  # characters that no name of a published data set has


def load(name: str, noise_ind: int = 0, *, directory: Path | str | None = None, **settings) -> Dataset:
    """Load a data set at a noise level: a published one (from the cache where it was made before), or your own.

    Args:
        name: One of `DATASETS`, or a text of --data: a file, a folder of images, `keras:mnist`, ...
        noise_ind: Index of the noise level, from 0 (see `linearized data`).
        directory: Folder of a published data set's raw files and cache; None reads `directories.txt`.
        settings: `num_train`, `num_test`, `validation`, `subset`, `seed`, and the data set's own; for your own data
            every flag of the group Data, such as `target`, `test_fraction` or `preprocess`.

    Raises `UserError` for what a user can mend: unknown name, index out of range, missing or damaged files.
    """
    if name in DATASETS or not (set(name) & set(_OF_PATHS) or Path(name).exists()):
        return DATASETS.load(name).load(noise_ind, directory=directory, **settings)
    if directory is not None:
        raise UserError(f"directory= is for published data sets; {name!r} names its own place.")
    rows = PreprocessedRows(data=name, **settings)
    rows.refuse_unread(settings)
    return load_preprocessed(rows, noise_ind)
