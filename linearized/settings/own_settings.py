"""Flags that select the user's own data (`--data`) instead of a dataset of the suite, and the table of formats.

The data are not read here. Each format of `--data` has a reader in `linearized.data.own.readers`. The reader declares
which format-specific flags it uses; other format-specific flags are refused.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from linearized.base.errors import UserError
from linearized.base.registry import Registry
from linearized.settings.config import Settings, setting
from linearized.settings.reads import SET, Declarations, reads, when

FORMATS = Registry(  # formats in the order in which a text of --data is tried
    "format",
    {
        "npz": "linearized.data.own.readers.npz:NPZ",
        "npy": "linearized.data.own.readers.npy:NPY",
        "csv": "linearized.data.own.readers.table:TEXT",
        "parquet": "linearized.data.own.readers.table:PARQUET",
        "h5": "linearized.data.own.readers.hdf5:HDF5",
        "mat": "linearized.data.own.readers.mat:MAT",
        "pickle": "linearized.data.own.readers.pickled:PICKLE",
        "arrays": "linearized.data.own.memory:ARRAYS",
        "keras": "linearized.data.own.readers.keras:KERAS",
        "sklearn": "linearized.data.own.readers.sklearn:SKLEARN",
        "openml": "linearized.data.own.readers.sklearn:OPENML",
        "hf": "linearized.data.own.readers.hub:HF",
        "tfds": "linearized.data.own.readers.hub:TFDS",
        "cifar10": "linearized.data.own.readers.cifar:CIFAR10",
        "cifar100": "linearized.data.own.readers.cifar:CIFAR100",
        "svhn": "linearized.data.own.readers.cifar:SVHN",
        "idx": "linearized.data.own.readers.idx:IDX",
        "image_folder": "linearized.data.own.readers.image_folder:IMAGE_FOLDER",
        "libsvm": "linearized.data.own.readers.libsvm:LIBSVM",  # last, because it inspects files of any suffix
    },
)
MECHANISM = Registry("mechanism", {
    "format_of": "linearized.data.own.formats:format_of", "source": "linearized.data.own.source:own_source",
    "digest": "linearized.data.own.formats:content_digest", "file_digest": "linearized.data.own.formats:file_digest",
})  # fmt: skip
CHANNELS = ("auto", "grey", "colour")
SPECTRAL = ("high_frequency", "low_frequency")  # noises that have default levels
NOISES = ("", "high_frequency", "low_frequency", "label", "gaussian")
MISSING = ("refuse", "drop", "mean")
TASKS = ("auto", "classes", "binary", "regression")
OWN = when(data=SET)


@dataclasses.dataclass(frozen=True)
class OwnDataSettings(Settings):
    """Settings of the user's own data. With `--data`, the setting `--dataset` is not read.

    Raises `UserError` for a noise without default levels if `--noise_levels` is not given.
    """

    GROUP = "Data"

    data: str = setting(
        "", "your own data in the place of --dataset: a.npz, x.npy,y.npy, a.csv, train.csv,test.csv, a.tsv, a.parquet, "
        "a.h5:group, a.mat, mnist.pkl.gz, idx and LIBSVM files, a folder of images, or keras:, sklearn:, openml:, "
        "hf: or tfds: and a name",
    )  # fmt: skip
    task: str = setting(
        "auto", "what to learn of --data; auto: classes for text and for few whole numbers", choices=TASKS, when=OWN
    )
    test_fraction: float = setting(
        0.2, "share of --data held out at random (by --seed) for testing, if it has no test part", minimum=0.001,
        maximum=0.999, when=OWN,
    )  # fmt: skip
    missing: str = setting(
        "refuse", "rows of --data with missing values: refuse, drop them, or fill in the mean of the train rows",
        choices=MISSING, when=OWN,
    )  # fmt: skip
    target: str = setting("", "the column of labels, or several targets with commas; empty: target, label, class or y")
    drop_columns: str = setting("", "columns that are not read, with commas, such as id,name")
    image_size: str = setting("", "side of the images in pixels, or height x width such as 32x48; empty: as they are")
    image_shape: str = setting(
        "", "shape of images whose rows are flat (n, d): height,width,channels such as 32,32,3, height,width, or "
        "channels first such as 3,32,32; of a table, one column per pixel", when=OWN,
    )  # fmt: skip
    channels: str = setting("auto", "channels of the images; auto: as they are, if they are alike", choices=CHANNELS)
    skip_bad: bool = setting(False, "skip pictures that cannot be read, and list them in the record")
    noise: str = setting(
        "", "noise of --data: the published ones of images, wrong labels of train rows (not of validation rows), or "
        "Gaussian noise of all inputs",
        choices=NOISES, when=OWN,
    )  # fmt: skip
    noise_levels: str = setting(
        "", "levels of --noise, which --noise_ind counts: such as 0,0.5,1; empty: the published ones of high_frequency "
        "and low_frequency, for the size of the images",
        when=when(noise=SET), unkeyed="0",
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.noise and self.noise not in SPECTRAL and not self.noise_levels:
            raise UserError(f"--noise={self.noise} has no published levels: give --noise_levels, such as "
                            "--noise_levels=0,0.5,1.")  # fmt: skip

    @classmethod
    def kinds(cls) -> Declarations:
        """Return which settings are read by which format of `--data`, under the key "data" (see `Settings.kinds`)."""
        own = {name: reads(*FORMATS.load(name).reads) for name in FORMATS}
        return super().kinds() | {"data": own}

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, by name.

        Unset `noise_levels` become "published" if the noise has default levels, otherwise "0".
        """
        implied = "published" if self.noise in SPECTRAL else "0"
        return super().identity() | {"noise_levels": self.noise_levels or implied}

    def chosen(self) -> Mapping[str, str | None]:
        """Return the selected entries (see `Settings.chosen`), with the format of `--data` under the key "data".

        The format is None if `--data` is not given.

        Raises `UserError` if no format fits `--data`.
        """
        return {**super().chosen(), "data": MECHANISM.load("format_of")(self.data) if self.data else None}

    def own_options(self) -> "OwnDataSettings":
        """Return the settings of the user's own data alone, without those of subclasses.

        They are passed to the readers and to `linearized.data.own.prepare`, and are hashable.
        """
        return OwnDataSettings.draft(**{name: getattr(self, name) for name in OwnDataSettings.own()})
