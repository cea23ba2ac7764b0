"""Estimate the memory that a training run needs at least, from its settings, and refuse what this machine cannot hold.

The estimates are lower bounds: they count parameters, their random draws and what the solver keeps of them, nothing of
the framework. So what is refused cannot work, and what passes may still be too large.
"""

from typing import Any

import psutil

from data.errors import UserError

FLOAT = 4  # bytes of a float32
DRAWN = 8  # bytes of a float64, in which weights are drawn
KEPT = {"sgd": 3, "adam": 4, "adamw": 4, "newton_cg": 4}  # copies of the parameters: with gradients, averages, steps


def refuse_beyond_memory(config: Any) -> None:
    """Raise `UserError` if a `train.Config` needs more memory than the machine has; names the flag to lower."""
    needed, have = least_bytes(config), psutil.virtual_memory().total
    if needed > have:
        layers = f" --num_layers={config.num_layers}" if config.num_layers > 1 else ""
        raise UserError(
            f"{config.model} with --num_units={config.num_units}{layers} needs {needed / 2**30:,.0f} GiB of memory at "
            f"least, and this machine has {have / 2**30:,.0f}. Lower --num_units."
        )


def least_bytes(config: Any) -> int:
    """Return a lower bound of the bytes that the model of a `train.Config`, its training and its draws take."""
    source = config.described()
    dim, outputs = config.dim(), source.num_classes if source.task == "classes" else 1
    count = parameters(config, dim, outputs)
    if config.model not in ("RF", "NT"):
        return count * FLOAT * KEPT.get(config.working_solver(), 1)
    block = min(config.block or config.num_units, config.num_units)
    draws = dim * (FLOAT * config.num_units + DRAWN * block)
    if config.uses_least_squares():
        return draws + count * FLOAT  # the solution at one ridge
    return draws + count * FLOAT * KEPT.get(config.working_solver(), 1)


def parameters(config: Any, dim: int, outputs: int) -> int:
    """Return how many numbers a model trains, or a lower bound of it.

    Args:
        dim: Length of a row.
        outputs: Outputs of the model.
    """
    units, more = config.num_units, config.num_layers - 1
    if config.model == "NN":
        return units * (dim + more * units + outputs)
    if config.model == "SNNK_MLP":
        return units * (config.num_layers * config.snnk_features + outputs)
    if config.model == "RF":
        return (units + 1) * outputs
    if config.model == "NT":
        return units * (dim * (outputs if config.directions == "per_class" else 1) + outputs)
    return 9 * units * units  # one convolution of the first stage, of which every convolutional model has two
