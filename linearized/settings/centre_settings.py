"""Flags of kernel ridge regression on centres, the few train rows that have coefficients in the fitted function."""

import dataclasses

from linearized.base.errors import UserError
from linearized.settings.config import LARGEST_SEED, Settings, setting
from linearized.settings.data_settings import MOST_ROWS
from linearized.settings.reads import SET, when

CHOICES = ("uniform", "rpcholesky")


@dataclasses.dataclass(frozen=True)
class CentreSettings(Settings):
    """Settings of a fit on centres, the few train rows that have coefficients in the fitted function.

    They cannot be combined with `--features` or `--gram`, which replace the kernel between rows and centres.
    """

    GROUP = "Centres"

    centres: int = setting(
        0, "m train rows that carry the coefficients, in memory for some m x m matrices and n m^2 operations; 0: all "
        "rows, with K between them", minimum=0, maximum=MOST_ROWS, when=when(features="", gram=""),
    )  # fmt: skip
    centre_choice: str = setting(
        "uniform", "centres drawn uniformly, or by randomly pivoted Cholesky, where other centres explain a row least, "
        "in as many operations again",
        choices=CHOICES, when=when(centres=SET),
    )  # fmt: skip
    centre_seed: int = setting(
        0, "random-number seed of the centres", minimum=0, maximum=LARGEST_SEED, when=when(centres=SET)
    )


def refuse_many_centres(count: int, rows: int) -> None:
    """Raise `UserError` if `count`, the number of centres, exceeds `rows`, the number of train rows."""
    if count > rows:
        raise UserError(f"Centres are train rows, of which there are {rows:,}. Received: --centres={count}.")
