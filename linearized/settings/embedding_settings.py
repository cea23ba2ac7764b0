"""Settings that define an embedding and its folder, shared by the programs that make and read embeddings.

An embedding is a matrix of random features: one vector for each row of a dataset. Inner products of these vectors
approximate a kernel.
"""

import dataclasses
from collections.abc import Mapping

from linearized.base.errors import UserError
from linearized.base.registry import Registry
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.data_settings import ONE_LEVEL_HELP
from linearized.settings.gram_settings import RowSettings, ShardFolder
from linearized.settings.reads import Declarations, declared

FEATURES = Registry(
    "features",
    {
        "NTK": "kernel_gen.features.ntk_features",
        "RF": "kernel_gen.features.rf_features",
        "CNTK": "kernel_gen.features.cntk_features",
        "POLYNOMIAL": "kernel_gen.features.polynomial_features",
    },
    aliases={"gp": "RF", "poly": "POLYNOMIAL"},
)


@dataclasses.dataclass(frozen=True)
class EmbeddedRows(RowSettings):
    """Settings of a kernel on rows of a dataset, or of random features that approximate it if `features` is set."""

    GROUP = "Features"

    features: str = setting("", "embed this kernel; empty: the kernel itself", choices=("", *FEATURES))
    embedding_dim: int = setting(4096, "--features: largest number of features, m", minimum=1, maximum=10**7)
    embedding_width: int = setting(
        0,
        "--features: number of features of each kernel between layers; 0: m/2, or m/8 of images",
        minimum=0,
        maximum=10**7,
    )
    method: str = setting(
        "random", "--features: activations by random neurons, or by sketched Hermite series; or (NTK, RF) the kernel "
        "with embedding_dim train rows as landmarks",
        choices=("random", "sketch", "landmarks"),
    )  # fmt: skip
    terms: int = setting(8, "--method=sketch: the degree at which series are cut", minimum=0, maximum=64)
    field: str = setting("real", "--method=sketch: signs ±1, or powers of i", choices=("real", "complex"))
    embedding_seed: int = setting(
        0, "--features: random-number seed of all that is drawn", minimum=0, maximum=LARGEST_SEED
    )

    @classmethod
    def kinds(cls) -> Declarations:
        """Return which settings each kernel and each kind of random features reads (see `Settings.kinds`)."""
        return {**super().kinds(), "features": declared(FEATURES)}

    def chosen(self) -> Mapping[str, str | None]:
        """Return the selected kernel or the selected random features, by the keys "kernel" and "features".

        The other one of the two values is None. Further keys are those of the base class (see `Settings.chosen`).
        """
        return {**super().chosen(), "features": self.features or None, **({"kernel": None} if self.features else {})}

    def complete(self) -> None:
        """Set the kernel to that of `--features`. Raises `UserError` if `--kernel` selects another one."""
        super().complete()
        if self.features:
            if self.kernel not in ("NTK", self.features):
                raise UserError(f"--features={self.features} names the kernel. Leave out --kernel={self.kernel}.")
            object.__setattr__(self, "kernel", self.features)

    def label(self) -> str:
        """Return a short name of the kernel for folders and titles, such as NTK2_ntk.

        With random features, their number m is added, as in NTK2_ntk_m4096.
        """
        return f"{super().label()}_m{self.embedding_dim}" if self.features else super().label()


@dataclasses.dataclass(frozen=True)
class EmbeddingSettings(ShardFolder, EmbeddedRows):
    """All settings that determine one embedding (random features of the rows of a dataset), and its folder."""

    GROUP = "Run"
    MODULE, NAMED, FOLLOWING = "kernel_gen.embed", ("features", "dataset", "embedding_dim"), ("kernel",)

    features: str = setting("NTK", "the kernel to embed", choices=FEATURES)
    noise_ind: int = setting(0, ONE_LEVEL_HELP, minimum=0, group="Data")
    folder: str = setting("", "of the shards; empty: named under the kernel's line of directories.txt", identity=False)

    def __post_init__(self):
        super().__post_init__()
        self.refuse_level(self.noise_ind)
