"""What the models share: the penalty, the check of settings, and reading a saved model."""

from pathlib import Path
from typing import Any

import keras

import linearized.layers  # noqa: F401 - registers the layers, so that `load` knows them
from data.errors import UserError


def penalty(strength: float) -> keras.regularizers.Regularizer | None:
    """strength·‖w‖², which is 2·strength·½‖w‖²; None for 0, so that an unpenalised model has no losses."""
    if strength < 0:
        raise UserError(f"A ridge must not be negative. Received: {strength}.")
    return keras.regularizers.L2(float(strength)) if strength else None


def refuse_settings(config: Any, model: str, **defaults: Any) -> None:
    """Raises `UserError` if a setting that `model` does not have is set to other than its default."""
    for name, default in defaults.items():
        if getattr(config, name) != default:
            raise UserError(
                f"{model} does not use --{name}. Leave it at {default}. Received: --{name}={getattr(config, name)}."
            )


def load(path: Path | str) -> keras.Model:
    """A saved `.keras` model, ready to predict (not compiled)."""
    return keras.saving.load_model(path, compile=False)
