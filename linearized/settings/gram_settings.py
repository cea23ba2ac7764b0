"""The settings that name a Gram matrix and its folder on disk: what makes it and what reads it share them.

A kernel is code of `kernel_gen`; its name, its settings and the place of its shards are known here, so that a reader
finds a matrix without importing what computes it.
"""

import dataclasses
import shlex
from pathlib import Path

from linearized.base.activations import ACTIVATION_HELP, ACTIVATIONS, parse
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.registry import Registry
from linearized.base.weights import BLOCK_HELP, LAW_HELP, LAWS, MOST_UNITS, SEED, WEIGHT_SEED_HELP
from linearized.settings.config import LARGEST_SEED, Settings, setting
from linearized.settings.data_settings import ONE_LEVEL_HELP, DataSettings
from linearized.settings.stax_expression import check_expression, check_inputs

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
PREPROCESSING = ("none", "layer_norm", "zca", "layer_norm_zca")
ZCA_REGULARIZATION = 0.1  # ε, as published
MYRTLE_DEPTHS = (5, 7, 10)
MYRTLE_POOLS = 5  # 2x2 pools of a Myrtle network, so that images have sides that are multiples of 32

# The settings that each kernel reads, beside those that all have; a kernel that is not listed may read all of them.
READS = {
    "NTK": ("num_layers", "weight_std", "bias_std", "activation"),
    "RF": ("num_units", "law", "block", "weight_seed"),
    "CNTK": ("depth", "head", "activation", "weight_std", "bias_std", "device"),
    "POLYNOMIAL": ("degree", "offset"),
    "STAX": ("architecture", "activation"),
}
COMMON = ("kernel", "kind", "dtype", "scale")


@dataclasses.dataclass(frozen=True)
class KernelSettings(Settings):
    """Settings of any kernel; each kernel reads those that it has."""

    kernel: str = setting("NTK", "the kernel", choices=KERNELS)
    kind: str = setting("ntk", "neural tangent kernel or neural network Gaussian process", choices=("ntk", "nngp"))
    num_layers: int = setting(2, "NTK: dense layers, 2 is one hidden layer", minimum=1, maximum=1000)
    depth: int = setting(
        5, "CNTK: Myrtle-5, 7 or 10; any number of convolutions with another --head", minimum=1, maximum=1000
    )
    head: str = setting(
        "myrtle", "CNTK: Myrtle, or plain convolutions and a head", choices=("myrtle", "gap", "flatten")
    )
    activation: str | object = setting("relu", ACTIVATION_HELP, choices=ACTIVATIONS, objects=True)
    weight_std: float = setting(1.0, "standard deviation of weights", minimum=0.0, maximum=1000.0)
    bias_std: float = setting(0.0, "standard deviation of biases, 0: none", minimum=0.0, maximum=1000.0)
    num_units: int = setting(0, "RF: width N of the finite Gram matrix, 0: infinite", minimum=0, maximum=MOST_UNITS)
    law: str = setting("gaussian", LAW_HELP, choices=LAWS)
    block: int = setting(50000, BLOCK_HELP, minimum=0, maximum=MOST_UNITS)
    weight_seed: int = setting(SEED, WEIGHT_SEED_HELP, minimum=0, maximum=LARGEST_SEED)
    degree: int = setting(2, "POLYNOMIAL: p of (c + x·z/√d)^p", minimum=1, maximum=1000)
    offset: float = setting(1.0, "POLYNOMIAL: c of (c + x·z/√d)^p", minimum=-1e6, maximum=1e6)
    architecture: str = setting("", "STAX: over neural_tangents.stax, such as serial(Dense(1), Relu(), Dense(1))")
    device: str = setting(
        "auto", "CNTK: where pairs are computed; auto: a GPU where Numba finds one", choices=("auto", "cpu", "gpu"),
        identity=False,
    )  # fmt: skip
    dtype: str = setting("float32", "of the entries", choices=("float32", "float64"))
    scale: str = setting("published", "published, stax or input, see Kernel", choices=("published", "stax", "input"))

    def __post_init__(self):
        super().__post_init__()
        self.refuse_unread()

    def refuse_unread(self) -> None:
        """Raise `UserError` for a setting that the kernel does not read, and for values that it cannot have."""
        for field in dataclasses.fields(KernelSettings):
            received = getattr(self, field.name)
            if field.name not in (*COMMON, *self.reads()) and received != field.default:
                raise UserError(
                    f"{self.kernel} does not use {field.name}. Leave it at {field.default!r}. Received: {received!r}."
                )
        if self.scale == "input" and (self.kernel in ("POLYNOMIAL", "STAX") or self.num_units):
            name = f"{self.kernel} with num_units" if self.num_units else self.kernel
            raise UserError(f"{name} has one scale. Leave scale at published or stax. Received: 'input'.")
        if self.kernel == "CNTK" and self.head == "myrtle" and self.depth not in MYRTLE_DEPTHS:
            raise UserError(f"Myrtle networks have a --depth of 5, 7 or 10. Received: {self.depth}.")
        if self.kernel == "CNTK" and not self.weight_std > 0:
            raise UserError(f"A CNTK needs --weight_std above 0. Received: {self.weight_std}.")
        if self.kernel == "STAX":
            if not self.architecture:
                raise UserError(
                    "STAX needs an architecture, such as --architecture='serial(Dense(1), Relu(), Dense(1))'."
                )
            check_expression(self.architecture, self.activation)

    def reads(self) -> tuple[str, ...]:
        """Return the names of the settings that this kernel reads, beside `COMMON`; all for one not in `READS`."""
        if self.kernel == "RF" and not self.num_units:
            return ("num_units",)  # of infinite width: nothing is drawn
        return READS.get(self.kernel, tuple(field.name for field in dataclasses.fields(KernelSettings)))

    def label(self) -> str:
        """The kernel and its size, as folders and titles name it: NTK2_ntk, RF, CNTK5_nngp, POLYNOMIAL2."""
        sizes = {"NTK": self.num_layers, "CNTK": self.depth, "POLYNOMIAL": self.degree}
        size = f"N{self.num_units}" if self.kernel == "RF" and self.num_units else sizes.get(self.kernel, "")
        other = "" if self.activation == "relu" else f"_{parse(self.activation).name}"
        kind = "" if self.kernel in ("RF", "POLYNOMIAL") else f"_{self.kind}"
        return f"{self.kernel}{size}{other}{kind}"


@dataclasses.dataclass(frozen=True)
class RowSettings(DataSettings, KernelSettings):
    """A kernel on rows of a dataset, at a noise level that is named elsewhere."""

    zca_regularization: float = setting(
        ZCA_REGULARIZATION, "--preprocess=zca: added to eigenvalues, relative to their mean; 0.1 as published",
        minimum=0.0, maximum=1e6,
    )  # fmt: skip
    preprocess: str = setting(
        "none", "of the inputs: layer norm, ZCA fitted on the train rows, or both", choices=PREPROCESSING
    )
    num_shards: int = setting(
        0, "files the work is divided into, 0: a good number", minimum=0, maximum=10**6, identity=False
    )

    def refuse_unread(self) -> None:
        """As `KernelSettings`, and a kernel of images on rows that are none, or whose sides its pools do not divide."""
        super().refuse_unread()
        shape, side = self.described().image_shape, 2**MYRTLE_POOLS
        if self.kernel == "STAX":
            check_inputs(self.architecture, check_expression(self.architecture, self.activation), shape is not None)
        if self.kernel != "CNTK":
            return
        if shape is None:
            raise UserError(
                f"A CNTK needs images (height, width, channels), and the rows of {self.dataset} are none. Take a "
                "dataset of images, or --kernel=NTK."
            )
        if self.head == "myrtle" and (shape[0] % side or shape[1] % side):
            raise UserError(
                f"Myrtle-{self.depth} cannot take images of {shape[0]}x{shape[1]}: its {MYRTLE_POOLS} pools need sides "
                f"that are multiples of {side}. Use --head=gap or --head=flatten, which have no pools."
            )

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.activation, str):
            raise UserError(
                "An activation of your own has no name by which files could be found again. Take one of the named "
                f"activations, or kernel_gen.gram on arrays. Received: {self.activation!r}."
            )
        if self.zca_regularization != ZCA_REGULARIZATION and not self.preprocess.endswith("zca"):
            raise UserError(
                f"--zca_regularization={self.zca_regularization:g} is that of --preprocess=zca or layer_norm_zca. "
                f"Received: --preprocess={self.preprocess}."
            )


@dataclasses.dataclass(frozen=True)
class GramSettings(RowSettings):
    """All that names one Gram matrix."""

    noise_ind: int = setting(0, ONE_LEVEL_HELP, minimum=0)
    folder: str = setting("", "of the shards; empty: named under the kernel's line of directories.txt", identity=False)

    def __post_init__(self):
        super().__post_init__()
        self.refuse_level(self.noise_ind)

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
