"""Estimate the memory that a training run or a kernel's fit needs at least, and refuse what this machine cannot hold.

The estimates are lower bounds: they count parameters, their random draws and what the solver keeps of them, nothing of
the framework. So what is refused cannot work, and what passes may still be too large.
"""

from typing import Any

import numpy as np

from linearized.base.lists import count_or_share
from linearized.experiments.grids import listed_ridges
from linearized.models import declared
from linearized.settings.embedding_settings import EmbeddedRows
from linearized.settings.memory import (
    DRAWN,
    fewest_features,
    refuse_beyond_machine,
    refuse_large_embedding,
    refuse_large_kernel,
)

FLOAT = 4  # bytes of a float32
DOUBLE = 8  # bytes of a float64
COPIES = {"band": 1, "cholesky": 1, "eigh": 3}  # arrays of K's size that a solver holds at once; others stream K
KEPT = {"sgd": 3, "adam": 4, "adamw": 4, "newton_cg": 4}  # copies of the parameters: with gradients, averages, steps


def refuse_beyond_memory(config: Any) -> None:
    """Raise `UserError` if a `TrainSettings` needs more memory than the machine has; names the flag to lower."""
    layers = f" --num_layers={config.num_layers}" if config.num_layers > 1 else ""
    refuse_beyond_machine(
        least_bytes(config), f"{config.model} with --num_units={config.num_units}{layers}", "Lower --num_units."
    )


def refuse_large_fit(config: Any) -> None:
    """Raise `UserError` if the kernel, or the solver of a `KernelFitSettings`, needs more memory than the machine has.

    The solver `auto` streams K where a factor of it does not fit, so that only its coefficients count.
    """
    if config.features:
        refuse_large_embedding(config, config.described().image_shape, config.dim())
        refuse_beyond_machine(
            features_fit_bytes(config), f"Ridge regression with --embedding_dim={config.embedding_dim}",
            "Lower --embedding_dim.",
        )  # fmt: skip
        return
    if not config.gram:
        refuse_large_kernel(config)
    rows = train_rows(config)
    if config.solver == "eigh":
        from linearized.solvers.linear.eigh import refuse_many_rows  # SciPy is imported for this solver alone

        refuse_many_rows(rows)
    instead = "" if config.solver not in COPIES else ", or take --solver=block_lanczos, which streams K"
    refuse_beyond_machine(
        fit_bytes(config, rows), f"--solver={config.solver} with {rows:,} train rows", f"Lower --num_train{instead}."
    )


def train_rows(config: EmbeddedRows) -> int:
    """Return how many rows a kernel is fitted to; 0 where only the dataset's files can say."""
    source = config.described()
    given = config.synth_n if source.family == "SYNTH" else source.rows[0]
    rows = config.num_train or given
    return rows - count_or_share(config.validation, rows, "validation") if rows else 0


def fit_bytes(config: Any, rows: int) -> int:
    """Return a lower bound of the bytes that a solver of K takes: its copies of K, and α and K α of every ridge."""
    outputs = config.described().num_outputs
    ridges = len(listed_ridges(config.ridges)) if config.ridges else 1
    matrices = COPIES.get(config.solver, 0) * rows**2 * np.dtype(config.dtype).itemsize
    return matrices + 2 * DOUBLE * rows * outputs * ridges


def features_fit_bytes(config: Any) -> int:
    """Return a lower bound of the bytes of the normal equations of features and of the solver's copies of them."""
    solver = "band" if config.solver == "auto" else config.solver
    return (1 + COPIES.get(solver, 0)) * DOUBLE * fewest_features(config, config.dim()) ** 2


def least_bytes(config: Any) -> int:
    """Return a lower bound of the bytes that the model of a `TrainSettings`, its training and its draws take."""
    dim, outputs = config.dim(), config.described().num_outputs
    own = declared(config)
    count = own.parameters(config, dim, outputs)
    if not own.linear or config.num_units is None:
        return count * FLOAT * KEPT.get(config.working_solver(), 1)
    block = min(config.block or config.num_units, config.num_units)
    draws = dim * (FLOAT * config.num_units + DRAWN * block)
    if config.uses_least_squares():
        return draws + count * FLOAT  # the solution at one ridge
    return draws + count * FLOAT * KEPT.get(config.working_solver(), 1)
