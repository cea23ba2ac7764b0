"""Functions with which every command loads its data: the dataset, rows and noise level of its settings."""

from linearized.data.dataset import Dataset
from linearized.data.transforms.preprocess import preprocessed
from linearized.settings.data_settings import DataSettings, PreprocessedRows


def load_rows(settings: DataSettings, noise_ind: int) -> Dataset:
    """Load the dataset and the rows that settings select, at a noise level.

    Args:
        settings: Choice of the dataset (built-in or the user's own) and of its rows.
        noise_ind: Index of the noise level, from 0.

    Raises `UserError` for an index out of range, and for files that are missing or damaged.
    """
    return settings.described().load(noise_ind, **settings.row_settings())


def load_preprocessed(settings: PreprocessedRows, noise_ind: int) -> Dataset:
    """Load the dataset and the rows that settings select, at a noise level, and preprocess the inputs.

    Args:
        settings: Choice of the dataset, of its rows and of the preprocessing, such as standardisation.
        noise_ind: Index of the noise level, from 0.

    Raises `UserError` for an index out of range, and for files that are missing or damaged.
    """
    return preprocessed(load_rows(settings, noise_ind), settings.preprocess, settings.zca_regularization)
