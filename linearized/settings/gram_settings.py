"""Settings that define a Gram matrix and its folder on disk, shared by the programs that make and read matrices.

The code of a kernel is in the package `kernel_gen`. Its name, its settings and the folder of its files are defined
here, so that a reader finds a matrix without importing the code that computes it.
"""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from linearized.base.activations import ACTIVATION_HELP, ACTIVATIONS, parse
from linearized.base.directories import directory
from linearized.base.errors import UserError
from linearized.base.names import slug
from linearized.base.own_functions import is_reference, named_function
from linearized.base.registry import FUNCTION_ENTRY, FunctionRegistry
from linearized.base.weights import BLOCK_HELP, LAW_HELP, LAWS, MOST_UNITS, SEED, WEIGHT_SEED_HELP
from linearized.settings.config import LARGEST_SEED, Settings, setting
from linearized.settings.data_settings import MOST_ROWS, ONE_LEVEL_HELP, PreprocessedRows
from linearized.settings.model_files import VARIABLES_HELP, ModelFiles
from linearized.settings.reads import Declarations, declared
from linearized.settings.run_settings import NUM_LAYERS_HELP

KERNELS = FunctionRegistry(
    "kernel",
    {
        "NTK": "kernel_gen.kernels.ntk",
        "RF": "kernel_gen.kernels.rf",
        "CNTK": "kernel_gen.kernels.cntk",
        "POLYNOMIAL": "kernel_gen.kernels.polynomial",
        "STAX": "kernel_gen.kernels.stax",
        "LAPLACE": "kernel_gen.kernels.laplace",
        "GAUSSIAN": "kernel_gen.kernels.gaussian",
        "MATERN": "kernel_gen.kernels.matern",
        "PATCH": "kernel_gen.kernels.patch",
        "EMPIRICAL": "linearized.models.empirical_kernel",
        "RFM": "linearized.experiments.rfm",
    },
    aliases={"gp": "RF", "poly": "POLYNOMIAL", "rbf": "GAUSSIAN"},
    own="kernel_gen.kernels.own",
)

KEYS = {"CNTK": "cntk_dir", "RF": "rf_dir"}


@dataclasses.dataclass(frozen=True)
class KernelSettings(Settings):
    """Settings of all kernels; each kernel reads a subset of them."""

    GROUP = "Kernel"
    STORED = {"num_layers": "hidden_layers"}  # noqa: RUF012 - ClassVar in the base; 0.1 kept dense layers as num_layers

    kernel: str = setting(
        "NTK", "the kernel; or package.module:function, your own k(x1, x2) of rows (n1, d) and (n2, d) that returns "
        "(n1, n2), see docs/guides/gram_matrices.md", choices=KERNELS,
    )  # fmt: skip
    kind: str = setting("ntk", "neural tangent kernel or neural network Gaussian process", choices=("ntk", "nngp"))
    num_layers: int = setting(1, NUM_LAYERS_HELP, minimum=0, maximum=999)
    dense_layers: int | None = setting(
        None, "the published count of layers, with the readout, in the place of --num_layers, which is 1 less",
        minimum=1, maximum=1000, identity=False,
    )  # fmt: skip
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
    bandwidth: float = setting(
        0.0, "LAPLACE, GAUSSIAN, MATERN, PATCH, and RFM with one of them: L of f(‖x - z‖ / L); 0: the median distance "
        "of train rows (PATCH: half that of patches)",
        minimum=0.0, maximum=1e100,
    )  # fmt: skip
    smoothness: str = setting("2.5", "MATERN: its smoothness", choices=("1.5", "2.5"))
    patch_size: int = setting(5, "PATCH: side of the patches", minimum=1, maximum=1000)
    patch_stride: int = setting(2, "PATCH: step from one patch to the next", minimum=1, maximum=1000)
    patch_cells: int = setting(
        2, "PATCH: cells on each side of the grid over which patches are pooled, 1: the whole image", minimum=1,
        maximum=1000,
    )  # fmt: skip
    patch_whitening: float = setting(
        0.1, "PATCH: added to the eigenvalues of the patches' covariance, relative to their mean, before they are "
        "whitened; 0: patches as they are",
        minimum=0.0, maximum=1e6,
    )  # fmt: skip
    architecture: str = setting("", "STAX: over neural_tangents.stax, such as serial(Dense(1), Relu(), Dense(1))")
    model: str = setting(
        "", "EMPIRICAL: path of a saved .keras model; its kernel is taken at the weights of the file",
        choices=ModelFiles("model", {}),
    )  # fmt: skip
    ntk_outputs: str = setting(
        "trace", "EMPIRICAL: trace, the sum over the outputs of their kernels; sum, the kernel of their sum; or the "
        "index of one output, from 0",
    )  # fmt: skip
    variables: str = setting("", VARIABLES_HELP)
    layer: str = setting(
        "", "EMPIRICAL with --kind=nngp: the layer whose outputs are the features; empty: what enters the last layer "
        "with weights",
    )  # fmt: skip
    base: str = setting(
        "LAPLACE", "RFM: the kernel whose metric is learned, one with gradients: LAPLACE, GAUSSIAN, MATERN, PATCH, NTK "
        "or RF",
        choices=KERNELS,
    )  # fmt: skip
    iterations: int = setting(5, "RFM: times the metric is learned, 0: the fixed kernel", minimum=0, maximum=1000)
    rfm_diagonal: bool = setting(False, "RFM: learn the diagonal of the metric alone: which columns matter")
    rfm_centred: bool = setting(True, "RFM: take the gradients' differences from their mean")
    rfm_power: float = setting(
        1.0, "RFM: the metric is this power of the average outer product of the gradients", minimum=0.01, maximum=10.0
    )
    rfm_search: bool = setting(
        False, "RFM: try diagonal and full, centred and not, powers 1 and 1/2, and choose as the ridge is chosen"
    )
    rfm_bandwidths: str = setting(
        "1", "RFM: bandwidths to choose from, in units of the median distance of the train rows, such as 0.5,1,2"
    )
    rfm_bases: str = setting(
        "LAPLACE,GAUSSIAN", "RFM: base kernels that --rfm_search tries beside --base, with the two metrics that did "
        "best; empty: none",
    )  # fmt: skip
    rfm_sample: int = setting(0, "RFM: train rows at which gradients are taken, 0: all", minimum=0, maximum=MOST_ROWS)
    ansatz_model: str = setting(
        "", "RFM: path of a saved .keras model that was trained on the same rows; the record has the correlation of "
        "each iteration's metric with WWᵀ, W the weights of its first layer",
        choices=ModelFiles("model", {}),
    )  # fmt: skip
    device: str = setting(
        "auto", "CNTK: where pairs are computed; auto: a GPU where Numba finds one", choices=("auto", "cpu", "gpu"),
        identity=False,
    )  # fmt: skip
    dtype: str = setting("float32", "data type of the entries", choices=("float32", "float64"))
    scale: str = setting("published", "published, stax or input, see Kernel", choices=("published", "stax", "input"))

    @classmethod
    def kinds(cls) -> Declarations:
        """Return which settings are read by which kernel, under the key "kernel" (see `Settings.kinds`)."""
        return {**super().kinds(), "kernel": {**declared(KERNELS), FUNCTION_ENTRY: {}}}

    def chosen(self) -> Mapping[str, str | None]:
        """Return the selected entries (see `Settings.chosen`), with the selected kernel under the key "kernel"."""
        return {**super().chosen(), "kernel": KERNELS.entry(self.kernel)}

    def __post_init__(self):
        super().__post_init__()
        self.check_kernel()

    def complete(self) -> None:
        """Set `num_layers`, the number of hidden layers, to `dense_layers` - 1 if `dense_layers` is given.

        Raises `UserError` if both are given and differ.
        """
        super().complete()
        if self.dense_layers is not None and self.reads("num_layers"):
            hidden, default = self.dense_layers - 1, type(self).__dataclass_fields__["num_layers"].default
            if self.num_layers not in (default, hidden):
                raise UserError(
                    f"--dense_layers={self.dense_layers} is --num_layers={hidden}. Received also: "
                    f"--num_layers={self.num_layers}."
                )
            object.__setattr__(self, "num_layers", hidden)
            object.__setattr__(self, "dense_layers", None)

    def grid_by_trace(self) -> bool:
        """Return whether the default ridges of the selected kernel are relative to the trace of its Gram matrix K.

        The module of the kernel decides this (its `TRACE_GRID`).
        """
        return getattr(KERNELS.load(self.kernel), "TRACE_GRID", False)

    def by_labels(self) -> bool:
        """Return whether the selected kernel is learned from the labels, as in a recursive feature machine.

        The module of such a kernel has a function `fit_level`, which learns the kernel.
        """
        return hasattr(KERNELS.load(self.kernel), "fit_level")

    def check_kernel(self) -> None:
        """Raise `UserError` for values that the selected kernel cannot have; its module's function `check` decides."""
        if check := getattr(KERNELS.load(self.kernel), "check", None):
            check(self)

    def label(self) -> str:
        """Return a short name of the kernel with its size, for folders and titles, such as NTK2_ntk, RF or CNTK5_nngp.

        The size of the NTK is the number of its dense layers, hidden layers + 1.
        """
        sizes = {"NTK": self.num_layers + 1, "CNTK": self.depth, "POLYNOMIAL": self.degree,
                 "PATCH": self.patch_size,
                 "EMPIRICAL": f"_{slug(Path(self.model).stem)}", "RFM": f"_{slug(self.base)}"}  # fmt: skip
        size = f"N{self.num_units}" if self.kernel == "RF" and self.num_units else sizes.get(self.kernel, "")
        other = "" if self.activation == "relu" else f"_{slug(parse(self.activation).name)}"
        if is_reference(self.kernel):
            return slug(self.kernel.replace(":", "."))
        kind = f"_{self.kind}" if self.reads("kind") else ""
        return f"{self.kernel}{size}{other}{kind}"


@dataclasses.dataclass(frozen=True)
class RowSettings(PreprocessedRows, KernelSettings):
    """Settings of a kernel and of rows of a dataset; subclasses add the noise level."""

    GROUP = "Data"

    num_shards: int = setting(
        0, "files the work is divided into, 0: a good number", minimum=0, maximum=10**6, identity=False, group="Run"
    )

    def check_kernel(self) -> None:
        """Raise `UserError` for values that the selected kernel cannot have, and for rows that it does not accept.

        The module of the kernel checks them with its functions `check` and `check_rows`.
        """
        super().check_kernel()
        if check_rows := getattr(KERNELS.load(self.kernel), "check_rows", None):
            check_rows(self, self.described().image_shape)

    def __post_init__(self):
        if not isinstance(self.activation, str):
            object.__setattr__(self, "activation", named_function(self.activation, "activation"))
        super().__post_init__()


class ShardFolder:
    """Mixin for settings of a Gram matrix or of features, which are stored in a folder of shards (HDF5 files).

    By default the name of the folder is derived from the settings that determine its content.

    Attributes:
        MODULE: The program that makes the shards.
        NAMED: Settings that the command line contains whenever they are read, even at their defaults.
        FOLLOWING: Settings whose values follow from other settings; the command line never contains them.
    """

    MODULE: ClassVar[str]
    NAMED: ClassVar[tuple[str, ...]]
    FOLLOWING: ClassVar[tuple[str, ...]] = ()

    def path(self) -> Path:
        """Return the folder of the shards."""
        if self.folder:
            return Path(self.folder)
        name = f"{self.data_name()}_noise{self.noise_ind}_{self.label()}_{self.key()}"
        return directory(KEYS.get(self.kernel, "ntk_dir")) / name

    def flags(self) -> list[str]:
        """Return the command-line arguments that determine the shards' content.

        Settings at their defaults are left out, except those in `NAMED`.
        """
        content = next(base for base in type(self).__mro__ if ShardFolder in base.__bases__)
        return [
            f"--{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(content)
            if (field.name in self.NAMED and self.reads(field.name))
            or (field.name not in self.FOLLOWING and getattr(self, field.name) != field.default)
        ]

    def command(self) -> str:
        """Return the command line that makes the shards."""
        return shlex.join(["python", "-m", self.MODULE, *self.flags()])


@dataclasses.dataclass(frozen=True)
class GramSettings(ShardFolder, RowSettings):
    """All settings that determine one Gram matrix, and its folder."""

    GROUP = "Run"
    MODULE, NAMED = "kernel_gen", ("kernel", "dataset")

    noise_ind: int = setting(0, ONE_LEVEL_HELP, minimum=0, group="Data")
    folder: str = setting("", "of the shards; empty: named under the kernel's line of directories.txt", identity=False)

    def __post_init__(self):
        super().__post_init__()
        self.refuse_level(self.noise_ind)

    def check_kernel(self) -> None:
        """Raise `UserError` for settings with which the selected kernel has no Gram matrix on these rows.

        The reasons are values that the kernel cannot have, rows of an unsuitable shape, and kernels that are learned
        from the labels.
        """
        super().check_kernel()
        if self.by_labels():
            raise UserError(
                f"{self.kernel} is learned from the labels and has no Gram matrix of its own. Fit it with "
                f"linearized krr --kernel={self.kernel}. Received: --kernel={self.kernel}."
            )
