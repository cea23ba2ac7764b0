"""The settings of `linearized krr`: kernel, data, ridges, solver and where to run."""

import dataclasses
from collections.abc import Iterable, Mapping

from linearized.base.errors import UserError
from linearized.base.extras import MOST_WORKERS, SCHEDULER_HELP, checked_address
from linearized.experiments.grids import GRIDS, listed_ridges
from linearized.settings.centre_settings import CentreSettings
from linearized.settings.choice_settings import ChoiceSettings
from linearized.settings.config import setting
from linearized.settings.data_settings import MOST_ROWS, LevelsSettings
from linearized.settings.embedding_settings import EmbeddedRows, EmbeddingSettings
from linearized.settings.gram_settings import GramSettings, KernelSettings, RowSettings
from linearized.settings.reads import SET, Declarations, reads, when
from linearized.settings.run_settings import KERNEL_ITERATIONS, MEMORY_HELP, MOST_GIB, MOST_STEPS, KernelRunSettings
from linearized.solvers import AUTO_GRAM, GRAM_SOLVER_READS, GRAM_SOLVERS

OF_SHARDS = ("num_shards",)  # settings of matrices that are stored in shards
TILED = when(centres=SET) | when(on_the_fly=SET)  # fits that compute tiles of K, on workers if there are some
SOLVER_READS = GRAM_SOLVER_READS | {
    "auto": {name: on for solver in AUTO_GRAM for name, on in GRAM_SOLVER_READS[solver].items()}
}


@dataclasses.dataclass(frozen=True)
class KernelFitSettings(EmbeddedRows, LevelsSettings, ChoiceSettings, CentreSettings, KernelRunSettings):
    """Settings of `linearized krr` (and `python kernel_fit.py`): kernel, data, ridges, solver and where to run.

    Three kinds of fit are possible. By default the Gram matrix K of all train rows is computed or loaded. With
    --features, the fit is a ridge regression on features whose inner products approximate the kernel. With --centres,
    the fitted function is Σ_c k(x, c) a_c over some train rows c. The fits with --features and --centres do not compute
    K.
    """

    GROUP = "Solver"

    gram: str = setting(
        "", "folder of shards to use; empty: the kernel's own, made if need be", identity=False, group="Run"
    )
    ridges: str = setting("", "ρ of (K + ρI)α = y such as 0.1,1,10; empty: the grid of --ridge_grid")
    ridge_grid: str = setting(
        "published",
        "as published, or by_scale: 10^[-4, 3] for NTKs of 4 and more dense layers on (N)FMNIST and (N)DIGITS",
        choices=GRIDS,
        when=when(ridges=""),
    )
    solver: str = setting(
        "auto",
        "auto: band while a factor fits in memory, else block_lanczos; eigh gives leave-one-out errors",
        choices=("auto", *GRAM_SOLVERS),
    )
    rtol: float = setting(
        0.0,
        "residual to reach; 0: 1e-7, or 1e-5 for askotch, block_lanczos, cg and rpcholesky on float32",
        minimum=0.0,
        maximum=1.0,
    )
    max_iterations: int = setting(
        KERNEL_ITERATIONS,
        "most products with K of block_lanczos, cg and rpcholesky, epochs of askotch, and steps by which the others "
        "refine a ridge",
        minimum=1,
        maximum=MOST_STEPS,
    )
    preconditioner_rank: int = setting(
        0, "columns of K that precondition rpcholesky, 0: n/10, or a quarter of the memory; of each block of askotch, "
        "0: all", minimum=0, maximum=MOST_ROWS, when=when(features="", centres=0),
    )  # fmt: skip
    block_rows: int = setting(
        0, "rows of K in a block of askotch; 0: √(50 n), or fewer in little memory", minimum=0, maximum=MOST_ROWS,
        when=when(features="", centres=0),
    )  # fmt: skip
    on_the_fly: bool = setting(
        False, "never write K to disk: hold it where it fits in --memory, else compute it in every product",
        identity=False, group="Run", when=when(features="", gram="", centres=0),
    )  # fmt: skip
    memory: float = setting(
        0.0, MEMORY_HELP, minimum=0.0, maximum=MOST_GIB, identity=False, group="Run", when=when(features="")
    )
    workers: int = setting(
        0, "processes that compute blocks of rows, with an equal share of this machine's cores each; 0: this process "
        "computes them", minimum=0, maximum=MOST_WORKERS, identity=False, group="Run",
        when=TILED & when(scheduler=""),
    )  # fmt: skip
    scheduler: str = setting("", SCHEDULER_HELP, identity=False, group="Run", when=when(features=""))

    @classmethod
    def kinds(cls) -> Declarations:
        """Return which settings each kernel and each solver reads, in the form of `Settings.kinds`.

        The keys are names of settings such as "kernel" and "solver", whose values select a kernel or a solver.
        """
        kinds = super().kinds()
        own = {name: entry | reads("scheduler", when=TILED) for name, entry in kinds[""].items()}
        return kinds | {"solver": SOLVER_READS, "": own}

    def chosen(self) -> Mapping[str, str | None]:
        """Return the names of the selected kernel, solver and other entries, by setting; see `Settings.chosen`."""
        return {**super().chosen(), "solver": self.solver}

    def __post_init__(self):
        super().__post_init__()
        if self.gram and len(self.levels()) > 1:
            raise UserError(f"--gram={self.gram} is of one noise level. Received: --noise_ind={self.noise_ind}.")
        if self.features and self.gram:
            raise UserError("--features has no --gram folder: leave it out.")
        if self.scheduler:
            checked_address(self.scheduler)
        if self.ridges:
            listed_ridges(self.ridges)
        if not self.gram:
            self.check_grid()

    def reads(self, name: str) -> bool:
        """Return whether the setting `name` has an effect.

        Settings of shards have no effect if no Gram matrix is stored, which is the case for kernels that are learned
        from labels, with --centres and with --on_the_fly.
        """
        if name in OF_SHARDS and (self.centres or self.on_the_fly):
            return False
        return super().reads(name) and not self._of_fixed(name)

    def _of_fixed(self, name: str) -> bool:
        """Return whether a setting has no effect because the kernel is learned from labels.

        No shards are then kept, and no products with shards are computed by a scheduler's workers.

        Args:
            name: Name of the setting.
        """
        only = name in OF_SHARDS or (name == "scheduler" and not TILED.holds(self))
        return only and not self.gram and self.by_labels()

    def refuse_unread(self, given: Iterable[str]) -> None:
        """Raise `UserError` for settings that were given but have no effect.

        With --gram the settings of the kernel may be given, because they are compared with the settings of the folder;
        --num_shards is refused.

        Args:
            given: Names of the settings that the user gave.
        """
        own = KernelSettings.own() if self.gram else ()
        given = list(given)
        if self.gram and "num_shards" in given:
            raise UserError(f"--num_shards is read without --gram. Received: --num_shards={self.num_shards}.")
        for name in given:
            if self._of_fixed(name):
                tiled = ", or with --centres or --on_the_fly" if name == "scheduler" else ""
                raise UserError(
                    f"--{name} is read by kernels other than {self.kernel}, which is learned from labels and computed "
                    f"here{tiled}. Received: --{name}={getattr(self, name)}."
                )
            if name in OF_SHARDS and (self.centres or self.on_the_fly):
                other = f"--centres={self.centres}" if self.centres else "--on_the_fly"
                raise UserError(
                    f"--{name} is read with no {other.partition('=')[0]}, for which no matrix is stored. Received: "
                    f"--{name}={getattr(self, name)} {other}."
                )
        super().refuse_unread(name for name in given if name not in own)

    def check_kernel(self) -> None:
        """Raise `UserError` for settings that the kernel cannot have; with --gram, the folder determines the kernel."""
        if not self.gram:
            super().check_kernel()

    def check_grid(self) -> None:
        """Raise `UserError` if --ridge_grid is given and has no effect."""
        if self.ridge_grid == "published":
            return
        family = self.described().family
        if (
            self.ridges
            or family != "FMNIST"
            or self.kernel != "NTK"
            or self.num_layers < 3
            or self.scale != "published"
        ):
            raise UserError(
                f"--ridge_grid={self.ridge_grid} differs from the published grid for --kernel=NTK --num_layers=3 and "
                f"more on FMNIST, NFMNIST and the digits, without --ridges. Received: --kernel={self.kernel} "
                f"--num_layers={self.num_layers} --dataset={self.data_name()} --scale={self.scale} "
                f"--ridges={self.ridges}."
            )

    def gram_settings(self, level: int) -> GramSettings:
        """Return the settings of the Gram matrix at the noise level with the index `level`."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(RowSettings)}
        return GramSettings(**shared, noise_ind=level)

    def embedding_settings(self, level: int) -> EmbeddingSettings:
        """Return the settings of the features of --features at the noise level with the index `level`."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(EmbeddedRows)}
        return EmbeddingSettings(**shared, noise_ind=level)

    def label(self) -> str:
        """Return the kernel's short name with the number of centres, for folders and titles, such as NTK2_ntk_c2000."""
        return f"{super().label()}_c{self.centres}" if self.centres else super().label()
