"""The settings that name a Gram matrix and its folder on disk: what makes it and what reads it share them.

A kernel is code of `kernel_gen`; its name, its settings and the place of its shards are known here, so that a reader
finds a matrix without importing what computes it.
"""

import dataclasses
import shlex
from pathlib import Path

from data import DATASETS, load, preprocess
from data.activations import ACTIVATIONS, parse
from data.config import Settings, setting
from data.dataset import Dataset
from data.directories import directory
from data.errors import UserError
from data.registry import Registry

KERNELS = Registry(
    "kernel",
    {
        "NTK": "kernel_gen.kernels.ntk",
        "RF": "kernel_gen.kernels.rf",
        "CNTK": "kernel_gen.kernels.cntk",
        "POLYNOMIAL": "kernel_gen.kernels.polynomial",
        "STAX": "kernel_gen.kernels.stax",
    },
    aliases={"gp": "RF", "poly": "POLYNOMIAL"},
)

KEYS = {"CNTK": "cntk_dir", "RF": "rf_dir"}
_SYNTH = ("synth_dim", "synth_eta", "synth_n")


@dataclasses.dataclass(frozen=True)
class KernelSettings(Settings):
    """Settings of any kernel; each kernel reads those that it has."""

    kernel: str = setting("NTK", "the kernel", choices=KERNELS)
    kind: str = setting("ntk", "neural tangent kernel or neural network Gaussian process", choices=("ntk", "nngp"))
    num_layers: int = setting(2, "NTK: dense layers, 2 is one hidden layer", minimum=1)
    depth: int = setting(5, "CNTK: Myrtle-5, 7 or 10; any number of convolutions with another --head", minimum=1)
    head: str = setting(
        "myrtle", "CNTK: Myrtle, or plain convolutions and a head", choices=("myrtle", "gap", "flatten")
    )
    activation: str = setting(
        "relu", "NTK, CNTK: a name, or with numbers, such as leaky_relu(0.1)", choices=ACTIVATIONS
    )
    weight_std: float = setting(1.0, "standard deviation of weights", minimum=0.0)
    bias_std: float = setting(0.0, "standard deviation of biases, 0: none", minimum=0.0)
    num_units: int = setting(0, "RF: width N of the finite Gram matrix, 0: infinite", minimum=0)
    law: str = setting("gaussian", "RF: weights N(0, 1/d) or on the unit sphere", choices=("gaussian", "sphere"))
    block: int = setting(50000, "RF: units a draw, part of the published draw", minimum=1)
    weight_seed: int = setting(1990, "RF: of the weights", minimum=0)
    degree: int = setting(2, "POLYNOMIAL: p of (c + x·z/√d)^p", minimum=1)
    offset: float = setting(1.0, "POLYNOMIAL: c of (c + x·z/√d)^p")
    architecture: str = setting("", "STAX: over neural_tangents.stax, such as serial(Dense(1), Relu(), Dense(1))")
    device: str = setting(
        "auto", "CNTK: where pairs are computed; auto: a GPU where Numba finds one", choices=("auto", "cpu", "gpu"),
        identity=False,
    )  # fmt: skip
    dtype: str = setting("float32", "of the entries", choices=("float32", "float64"))
    scale: str = setting("published", "published, stax or input, see Kernel", choices=("published", "stax", "input"))

    def label(self) -> str:
        """The kernel and its size, as folders and titles name it: NTK2_ntk, RF, CNTK5_nngp, POLYNOMIAL2."""
        sizes = {"NTK": self.num_layers, "CNTK": self.depth, "POLYNOMIAL": self.degree}
        size = f"N{self.num_units}" if self.kernel == "RF" and self.num_units else sizes.get(self.kernel, "")
        other = "" if self.activation == "relu" else f"_{parse(self.activation).name}"
        kind = "" if self.kernel in ("RF", "POLYNOMIAL") else f"_{self.kind}"
        return f"{self.kernel}{size}{other}{kind}"


@dataclasses.dataclass(frozen=True)
class RowSettings(KernelSettings):
    """A kernel on rows of a dataset, at a noise level that is named elsewhere."""

    dataset: str = setting("DIGITS", "the data (python -m data tells which are here)", choices=DATASETS)
    num_train: int = setting(0, "train rows, 0: all", minimum=0)
    num_test: int = setting(0, "test rows, 0: all", minimum=0)
    validation: float = setting(0.0, "train rows held out: a fraction below 1, else a count", minimum=0.0)
    subset: str = setting("first", "which rows --num_train and --num_test take", choices=("first", "random"))
    seed: int = setting(0, "of the random subset", minimum=0)
    synth_dim: int = setting(1024, "SYNTH: dimension d", minimum=1)
    synth_eta: float = setting(0.4, "SYNTH: d^eta relevant coordinates", minimum=0.0, maximum=1.0)
    synth_n: int = setting(2**20, "SYNTH: rows of the whole train set", minimum=1)
    zca_regularization: float = setting(
        preprocess.REGULARIZATION, "--preprocess=zca: added to eigenvalues, relative to their mean; 0.1 as published",
        minimum=0.0,
    )  # fmt: skip
    preprocess: str = setting(
        "none", "of the inputs: layer norm, ZCA fitted on the train rows, or both", choices=preprocess.METHODS
    )
    num_shards: int = setting(0, "files the work is divided into, 0: a good number", minimum=0, identity=False)

    def __post_init__(self):
        super().__post_init__()
        if self.zca_regularization != preprocess.REGULARIZATION and not self.preprocess.endswith("zca"):
            raise UserError(
                f"--zca_regularization={self.zca_regularization:g} is that of --preprocess=zca or layer_norm_zca. "
                f"Received: --preprocess={self.preprocess}."
            )

    def load_level(self, noise_ind: int) -> Dataset:
        """The dataset at a noise level. Raises `UserError` as `data.load` does."""
        own = {name: getattr(self, name) for name in _SYNTH} if self.dataset == "SYNTH" else {}
        shared = {name: getattr(self, name) for name in ("num_train", "num_test", "validation", "subset", "seed")}
        dataset = load(self.dataset, noise_ind, **shared, **own)
        return preprocess.preprocessed(dataset, self.preprocess, self.zca_regularization)


@dataclasses.dataclass(frozen=True)
class GramSettings(RowSettings):
    """All that names one Gram matrix."""

    noise_ind: int = setting(0, "noise level, from 0 (python -m data lists what the levels are)", minimum=0)
    folder: str = setting("", "of the shards; empty: named under the kernel's line of directories.txt", identity=False)

    def path(self) -> Path:
        """The folder of the shards."""
        if self.folder:
            return Path(self.folder)
        return directory(KEYS.get(self.kernel, "ntk_dir")) / (
            f"{self.dataset}_noise{self.noise_ind}_{self.label()}_{self.key()}"
        )

    def flags(self) -> list[str]:
        """The command line's words for these settings, without those at their defaults."""
        return [
            f"--{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(GramSettings)
            if field.name in ("kernel", "dataset") or getattr(self, field.name) != field.default
        ]

    def command(self, module: str = "kernel_gen") -> str:
        """A command line of these settings."""
        return shlex.join(["python", "-m", module, *self.flags()])

    def data(self) -> Dataset:
        """The dataset that they name. Raises `UserError` as `data.load` does."""
        return self.load_level(self.noise_ind)
