"""Settings of measurements of the neural tangent kernel during training: flags that `TrainSettings` inherits."""

import dataclasses

from linearized.base.errors import UserError
from linearized.settings.config import Settings, setting
from linearized.settings.reads import SET, when

END = "end"


@dataclasses.dataclass(frozen=True)
class TangentSettings(Settings):
    """Settings of measurements of the network's tangent kernel in solvers that train by gradients.

    `linearized.experiments.tangent_measures` makes these measurements.
    """

    GROUP = "Solver"

    tangent_at: str = setting(
        "", "epochs after which the network's tangent kernel is measured, such as 0,1,10,end; see docs/tangents.md"
    )
    tangent_rows: str = setting(
        "200", "rows on which it is measured: the first 200 train rows and as many test rows, or 200,1000 of each",
        when=when(tangent_at=SET),
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        self.tangent_epochs()
        self.tangent_counts()

    def tangent_epochs(self) -> tuple[frozenset[int], bool]:
        """Return the epochs in `--tangent_at`, and whether it contains "end", which stands for the last epoch.

        An epoch is given by the number of finished epochs; 0 stands for the network before training.

        Raises `UserError` for text that is not a list of epochs.
        """
        words = [word.strip() for word in self.tangent_at.split(",")] if self.tangent_at else []
        numbers = [word for word in words if word != END]
        if not all(word.isascii() and word.isdigit() for word in numbers) or len(set(words)) < len(words):
            raise UserError(f"--tangent_at takes epochs and end, each once, such as 0,1,10,end. Received: "
                            f"{self.tangent_at[:60]!r}.")  # fmt: skip
        return frozenset(map(int, numbers)), END in words

    def tangent_counts(self) -> tuple[int, int]:
        """Return the numbers of train and of test rows on which the tangent kernel is measured (`--tangent_rows`).

        Raises `UserError` if the text is not one or two whole numbers of at least 2.
        """
        words = [word.strip() for word in self.tangent_rows.split(",")]
        if len(words) > 2 or not all(word.isascii() and word.isdigit() and 1 < int(word) < 10**5 for word in words):
            raise UserError(f"--tangent_rows takes a number of rows of at least 2, or two such as 200,1000. Received: "
                            f"{self.tangent_rows[:60]!r}.")  # fmt: skip
        return int(words[0]), int(words[-1])
