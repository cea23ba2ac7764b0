"""The rows that settings name: the one place where commands turn their flags into a dataset."""

from linearized.data.dataset import Dataset
from linearized.data.transforms.preprocess import preprocessed
from linearized.settings.data_settings import DataSettings, PreprocessedRows


def load_rows(settings: DataSettings, noise_ind: int) -> Dataset:
    """Load the rows at a noise level. Raises `UserError` as `linearized.data.load` does."""
    return settings.described().load(noise_ind, **settings.row_settings())


def load_preprocessed(settings: PreprocessedRows, noise_ind: int) -> Dataset:
    """Load the rows at a noise level, preprocessed as the settings say. Raises `UserError` likewise."""
    return preprocessed(load_rows(settings, noise_ind), settings.preprocess, settings.zca_regularization)
