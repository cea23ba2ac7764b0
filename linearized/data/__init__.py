"""THE GROUND: everything that lies on disk, and how to read it. NumPy, SciPy, h5py, pandas, absl; no framework."""

from pathlib import Path

from linearized.base.registry import Registry
from linearized.data.dataset import Dataset

DATASETS = Registry(
    "dataset",
    {
        "DIGITS": "linearized.data.sources.digits:DIGITS",
        "NDIGITS": "linearized.data.sources.digits:NDIGITS",
        "FMNIST": "linearized.data.sources.fmnist:FMNIST",
        "NFMNIST": "linearized.data.sources.fmnist:NFMNIST",
        "CIFAR2": "linearized.data.sources.cifar2:CIFAR2",
        "CIFAR10": "linearized.data.sources.cifar10:CIFAR10",
        "PATCHES": "linearized.data.sources.patches:PATCHES",
        "NPATCHES": "linearized.data.sources.patches:NPATCHES",
        "SYNTH": "linearized.data.sources.synth:SYNTH",
    },
)


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


def open_gram(folder: Path | str, *, fingerprint: str | None = None, check: bool = False):
    """The Gram matrix in a folder of shards; see `linearized.storage.gram.open_gram`, which is imported when it is called."""
    from linearized.storage.gram import open_gram as opened

    return opened(folder, fingerprint=fingerprint, check=check)
