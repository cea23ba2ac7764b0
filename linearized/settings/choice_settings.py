"""The flag that defines the best ridge of a run: the one with the highest accuracy or with the lowest loss."""

import dataclasses

from linearized.base.errors import UserError
from linearized.settings.config import Settings, setting

METRICS = ("accuracy", "loss")


@dataclasses.dataclass(frozen=True)
class ChoiceSettings(Settings):
    """Setting of the metric, accuracy or loss, by which a run selects its ridge and a feature machine its iteration."""

    GROUP = "Run"

    choose_by: str = setting(
        "accuracy",
        "the best ridge (of RFM: iteration and ridge) has the highest accuracy, or the lowest loss; regression "
        "and generalised cross-validation have a loss alone",
        choices=METRICS,
    )

    def check_choice(self, task: str, name: str) -> None:
        """Raise `UserError` if `--choose_by=loss` is given for regression, whose ridges are compared by loss anyway.

        Args:
            task: Task of the data: "classes", "binary" or "regression".
            name: Name of the data, for the message.
        """
        if task == "regression" and self.choose_by != "accuracy":
            raise UserError(
                f"The targets of {name} have no accuracy, so that ridges are compared by their loss anyway: leave out "
                f"--choose_by. Received: --choose_by={self.choose_by}."
            )
