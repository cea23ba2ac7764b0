"""Data sets at noise levels, as arrays with their labels and a fingerprint; no framework is imported."""

from pathlib import Path

from linearized.data.dataset import Dataset
from linearized.settings.data_settings import DATASETS

__all__ = ["DATASETS", "Dataset", "load"]


def load(name: str, noise_ind: int = 0, *, directory: Path | str | None = None, **settings) -> Dataset:
    """Loads a dataset at a noise level, from the cache where it was made before.

    Args:
        name: One of `DATASETS`.
        noise_ind: Which of the dataset's noise levels, from 0 (see `linearized data`).
        directory: Where its raw files lie and its cache is kept; None reads `directories.txt`.
        settings: `num_train`, `num_test`, `validation`, `subset`, `seed`, and the dataset's own.

    Raises `UserError` for what a user can mend: unknown name, index out of range, missing or damaged files.
    """
    return DATASETS.load(name).load(noise_ind, directory=directory, **settings)
