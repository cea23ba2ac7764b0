"""Settings of first-order training, such as the schedule and the momentum: flags that `TrainSettings` inherits.

Their defaults repeat the training of Ghorbani et al. (arXiv 2006.13409).
"""

import dataclasses
from typing import Any

from linearized.base.errors import UserError
from linearized.settings.config import Settings, setting
from linearized.settings.reads import when
from linearized.settings.tangent_settings import TangentSettings

SCHEDULES = ("published", "cosine", "lambda")


@dataclasses.dataclass(frozen=True)
class AugmentationSettings(Settings):
    """Settings of random changes of the train images, drawn again in every epoch; the defaults change nothing."""

    GROUP = "Solver"

    augment_crop: int = setting(0, "move each train image by up to so many pixels a side, anew each epoch", minimum=0)
    augment_flip: bool = setting(False, "mirror half of the train images, anew each epoch")


@dataclasses.dataclass(frozen=True)
class TrainingSettings(TangentSettings, AugmentationSettings):
    """Settings of SGD, Adam and AdamW; the defaults are those of Ghorbani et al. (arXiv 2006.13409)."""

    schedule: str = setting(
        "published",
        "learning rates: as published; cosine: warm-up to the rate, then a cosine to 0; lambda: warm-up to "
        "--warm_up_epochs times the rate, then a cosine to 0, as lambda networks were published",
        choices=SCHEDULES,
    )
    warm_up_epochs: int = setting(
        5, "epochs of warm-up of --schedule=cosine and lambda", minimum=0, when=when(schedule=("cosine", "lambda"))
    )
    weight_decay: float = setting(
        0.0, "weight decay of AdamW, multiplied by the learning rate in each step", minimum=0.0
    )
    l2_decay: float = setting(
        0.0,
        "λ that SGD and Adam add as λ w to the gradients of all trained weights (PyTorch's weight_decay)",
        minimum=0.0,
    )
    beta_2: float = setting(
        0.999, "decay of the squared gradients' mean in Adam and AdamW", minimum=0.0, maximum=0.99999
    )
    momentum: str = setting(
        "published",
        "SGD's rule. published: v = .9 v + g, w = w - rate v, for RF Nesterov's form of it; classical or nesterov: "
        "that rule for the other models; keras: v = .9 v - rate g, w = w + v",
        choices=("published", "classical", "nesterov", "keras"),
    )
    label_smoothing: float = setting(
        0.0, "ε of smoothed labels, for the cross-entropy", minimum=0.0, maximum=0.999, when=when(loss="cross_entropy")
    )
    mixed_precision: bool = setting(False, "compute in bfloat16, with float32 weights")

    def recipe_settings(self) -> dict[str, Any]:
        """Return the options of training by name, as arguments of `linearized.solvers.training.recipe.Recipe`."""
        return {
            "schedule": self.schedule,
            "warm_up": self.warm_up_epochs,
            "label_smoothing": self.label_smoothing,
            "weight_decay": self.weight_decay,
            "l2_decay": self.l2_decay,
            "beta_2": self.beta_2,
            "momentum": "classical" if self.momentum == "published" else self.momentum,
            "augment_crop": self.augment_crop,
            "augment_flip": self.augment_flip,
        }

    def __post_init__(self):
        super().__post_init__()
        if self.schedule == "lambda" and self.warm_up_epochs < 1:
            raise UserError("--schedule=lambda needs --warm_up_epochs of at least 1. Received: --warm_up_epochs=0.")
