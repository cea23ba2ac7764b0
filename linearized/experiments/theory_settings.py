"""Settings of `linearized theory`: a kernel, a pool of rows, and the predictions and measurements on it."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from linearized.base.errors import UserError
from linearized.base.lists import listed_numbers
from linearized.experiments.grids import listed_ridges
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.data_settings import MOST_ROWS, LevelsSettings
from linearized.settings.embedding_settings import EmbeddedRows, EmbeddingSettings
from linearized.settings.gram_settings import GramSettings, RowSettings
from linearized.settings.reads import SET, when
from linearized.settings.run_settings import KernelRunSettings

LARGEST_SHARE = 3  # predictions are compared with measurements up to n = N/3; larger sizes are marked in the table
SMALLEST, FEWEST_SIZES, MOST_SIZES = 8, 5, 64  # smallest default size; number of default sizes; most listed sizes


@dataclasses.dataclass(frozen=True)
class TheorySettings(EmbeddedRows, LevelsSettings, KernelRunSettings):
    """Settings of `linearized theory`: kernel and rows as for `linearized krr`, then sizes, ridges and draws.

    Sizes are the numbers of train rows for which losses are predicted; draws are random parts of the pool on which they
    are measured.
    """

    GROUP = "Theory"
    PREFIX = "theory_"

    num_train: int = setting(
        0, "rows of the pool, whose spectrum is computed and from which train rows are drawn; 0: all train rows",
        minimum=0, maximum=MOST_ROWS, group="Data", aliases=("pool",),
    )  # fmt: skip
    subset: str = setting(
        "random", "which rows --pool and --num_test take; the first ones of a data set may be easier than test rows",
        choices=("first", "random"), when=when(num_train=SET) | when(num_test=SET), group="Data",
    )  # fmt: skip
    sizes: str = setting("", "numbers of train rows such as 100,200,400; empty: five up to a third of the pool")
    ridges: str = setting("", "ρ of (K + ρI)α = y such as 0.1,1,10; empty: the published grid, or by the trace of K")
    draws: int = setting(5, "draws of train rows on which errors are measured; 0: none", minimum=0, maximum=10**4)
    draw_seed: int = setting(0, "random-number seed of these draws", minimum=0, maximum=LARGEST_SEED)

    def __post_init__(self):
        super().__post_init__()
        if self.ridges:
            listed_ridges(self.ridges)
        self.listed_sizes(self.num_train)

    def refuse_unread(self, given: Iterable[str]) -> None:
        """Raise `UserError` for settings that were given but have no effect, and for --validation.

        Validation rows would not be used, because no ridge is chosen.

        Args:
            given: Names of the settings that the user gave.
        """
        given = list(given)
        if "validation" in given:
            raise UserError(
                "theory measures on the pool's other rows and on the test rows: leave out --validation. Received: "
                f"--validation={self.validation:g}."
            )
        super().refuse_unread(given)

    def check_kernel(self) -> None:
        """Raise `UserError` for settings that the kernel cannot have, and for kernels that are learned from labels."""
        super().check_kernel()
        if self.by_labels():
            raise UserError(
                f"{self.kernel} is learned from the labels, and the theory is of kernels that are fixed before. Fit it "
                f"with linearized krr --kernel={self.kernel}. Received: --kernel={self.kernel}."
            )

    def listed_sizes(self, pool: int) -> list[int]:
        """Return the numbers n of train rows for which errors are predicted, in increasing order.

        By default they are N/3, N/6, N/12, N/24 and N/48 for a pool of N rows, without those below 8.

        Args:
            pool: N, the number of rows of the pool; 0 if it is not known yet.

        Raises:
            UserError: For sizes that are not whole numbers below N, for more than 64 sizes, and for a pool of fewer
                than 24 rows if no sizes are listed.
        """
        if self.sizes:
            numbers = sorted(set(listed_numbers(self.sizes, "sizes", least=1.0, most=float(MOST_ROWS))))
            if len(numbers) > MOST_SIZES or any(number != int(number) for number in numbers):
                raise UserError(f"--sizes takes at most {MOST_SIZES} whole numbers. Received: {self.sizes[:60]}.")
            if pool and numbers[-1] >= pool:
                raise UserError(
                    f"--sizes are below the pool's {pool} rows, because errors are measured on its other rows. "
                    f"Received: --sizes={self.sizes[:60]}."
                )
            return [int(number) for number in numbers]
        if pool and pool < LARGEST_SHARE * SMALLEST:
            raise UserError(
                f"A pool needs {LARGEST_SHARE * SMALLEST} rows for a grid of sizes. Received: {pool} rows. Raise "
                "--pool, or give --sizes."
            )
        halves = (pool // LARGEST_SHARE // 2**power for power in range(FEWEST_SIZES))
        return sorted(size for size in halves if size >= SMALLEST)

    def gram_settings(self, level: int) -> GramSettings:
        """Return the settings of the pool's Gram matrix at the noise level with the index `level`."""
        return GramSettings(**self._shared(RowSettings), noise_ind=level)

    def embedding_settings(self, level: int) -> EmbeddingSettings:
        """Return the settings of the pool's features (--features) at the noise level with the index `level`."""
        return EmbeddingSettings(**self._shared(EmbeddedRows), noise_ind=level)

    def _shared(self, kind: type) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(kind)}
        return {**values, "subset": self._subset()}

    def row_settings(self) -> dict[str, Any]:
        """Return the settings, by name, that determine which rows are loaded, such as `num_test` and `subset`.

        If all rows are loaded, `subset` is replaced by its default, so that rows keep their order.
        """
        return {**super().row_settings(), "subset": self._subset()}

    def _subset(self) -> str:
        return self.subset if self.reads("subset") else RowSettings.__dataclass_fields__["subset"].default
