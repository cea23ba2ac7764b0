"""Loading of the rows that settings select; every command converts its flags to a dataset here."""

from linearized.data.dataset import Dataset
from linearized.data.transforms.preprocess import preprocessed
from linearized.settings.data_settings import DataSettings, PreprocessedRows


def load_rows(settings: DataSettings, noise_ind: int) -> Dataset:
    """Load the rows at a noise level. Raises `UserError` as `linearized.data.load` does."""
    return settings.described().load(noise_ind, **settings.row_settings())


def load_preprocessed(settings: PreprocessedRows, noise_ind: int) -> Dataset:
    """Load the rows at a noise level, preprocessed by the settings. Raises `UserError` as `load_rows` does."""
    return preprocessed(load_rows(settings, noise_ind), settings.preprocess, settings.zca_regularization)
