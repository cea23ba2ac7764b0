"""THE GROUND: everything that lies on disk, and how to read it. NumPy, SciPy, h5py, pandas, absl; no framework."""

from pathlib import Path

from data.dataset import Dataset
from data.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "DIGITS": "data.digits:DIGITS",
        "NDIGITS": "data.digits:NDIGITS",
        "FMNIST": "data.fmnist:FMNIST",
        "NFMNIST": "data.fmnist:NFMNIST",
        "CIFAR2": "data.cifar2:CIFAR2",
        "CIFAR10": "data.cifar10:CIFAR10",
        "PATCHES": "data.patches:PATCHES",
        "NPATCHES": "data.patches:NPATCHES",
        "SYNTH": "data.synth:SYNTH",
    },
)


def load(name: str, noise_ind: int = 0, *, directory: Path | str | None = None, **settings) -> Dataset:
    """Loads a dataset at a noise level, from the cache where it was made before.

    Args:
        name: One of `DATASETS`.
        noise_ind: Which of the dataset's noise levels, from 0 (see `python -m data`).
        directory: Where its raw files lie and its cache is kept; None reads `directories.txt`.
        settings: `num_train`, `num_test`, `validation`, `subset`, `seed`, and the dataset's own.

    Raises `UserError` for what a user can mend: unknown name, index out of range, missing or damaged files.
    """
    return DATASETS.load(name).load(noise_ind, directory=directory, **settings)


def open_gram(folder: Path | str, *, fingerprint: str | None = None, check: bool = False):
    """The Gram matrix in a folder of shards; see `data.gram.open_gram`, which is imported when it is called."""
    from data.gram import open_gram as opened

    return opened(folder, fingerprint=fingerprint, check=check)
