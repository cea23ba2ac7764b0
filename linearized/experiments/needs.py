"""Lower bounds of the memory and the arithmetic of a training run or a kernel's fit, and refusals by them.

The bounds of memory count parameters, their random draws and what the solver keeps of them, and nothing of the
framework. Whatever is refused therefore cannot work, and whatever passes may still be too large. Those of arithmetic
are described in `linearized.settings.operations`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from linearized.experiments.grids import listed_ridges
from linearized.models import declared
from linearized.settings.memory import (
    DRAWN,
    fewest_features,
    refuse_beyond_machine,
    refuse_large_embedding,
    refuse_large_kernel,
)
from linearized.settings.operations import (
    gram_pairs,
    refuse_endless,
    refuse_endless_embedding,
    refuse_endless_kernel,
)
from linearized.storage.manifest import kind_of

FLOAT = 4  # bytes of a float32
DOUBLE = 8  # bytes of a float64
COPIES = {"band": 1, "cholesky": 1, "eigh": 3}  # arrays of K's size in memory at once; others stream K
KEPT = {"sgd": 3, "adam": 4, "adamw": 4, "newton_cg": 4}  # copies of the parameters, with gradients, averages and steps
EPOCH = 4.0  # operations per multiplication of a row's outputs: product and sum, and both for the gradient


def refuse_beyond_memory(config: Any) -> None:
    """Raise `UserError` naming the flag to lower if a `TrainSettings` needs more memory than the machine has."""
    layers = f" --num_layers={config.num_layers}" if config.num_layers > 1 else ""
    refuse_beyond_machine(
        least_bytes(config), f"{config.model} with --num_units={config.num_units}{layers}", "Lower --num_units."
    )


def refuse_endless_training(config: Any, rows: int, operations: float) -> None:
    """Raise `UserError` if a `TrainSettings` cannot train the model by gradients at one ridge in a month.

    Least squares is not estimated, because what its problem holds in memory bounds its work.

    Args:
        config: The `TrainSettings`.
        rows: Number of train rows; 0 if it is not known yet.
        operations: A lower bound of the operations of one row and epoch.
    """
    if config.uses_least_squares() or config.working_solver() == "newton_cg":
        return
    lower = "" if config.num_units is None else ", --num_units"
    refuse_endless(
        operations * config.max_cg_iters * rows,
        f"{config.model_name()} with --max_cg_iters={config.max_cg_iters} epochs of {rows:,} train rows",
        f"Lower --max_cg_iters{lower} or --num_train.",
    )


def refuse_endless_run(config: Any, rows: int) -> None:
    """Raise `UserError` as `refuse_endless_training` does, with the operations that the model declares."""
    own = declared(config)
    products = (own.multiplications or own.parameters)(config, config.dim(), config.described().num_outputs)
    refuse_endless_training(config, rows, EPOCH * products)


def refuse_endless_fit(config: Any, level: int, rows: Mapping[str, int]) -> None:
    """Raise `UserError` as `refuse_endless_matrix` does; with --gram or kernels of labels, no matrix is made."""
    if not (config.gram or config.by_labels()):
        refuse_endless_matrix(config, level, rows)


def refuse_endless_matrix(config: Any, level: int, rows: Mapping[str, int]) -> None:
    """Raise `UserError` if the matrix or the embedding that has to be made at a noise level takes more than a month.

    If some shards exist already, the job that makes the others accounts for them.

    Args:
        config: Settings of the fit.
        level: Noise level.
        rows: Number of rows of the train, validation and test parts; 0 if it is not known yet.
    """
    settings = config.embedding_settings(level) if config.features else config.gram_settings(level)
    if kind_of(settings.path()) is not None:
        return
    if config.features:
        refuse_endless_embedding(settings, sum(rows.values()))
    else:
        refuse_endless_kernel(settings, gram_pairs(rows))


def refuse_large_fit(config: Any) -> None:
    """Raise `UserError` if the kernel, or the solver of a `KernelFitSettings`, needs more memory than the machine has.

    The solver `auto` streams K if a factor of it does not fit, so that only its coefficients count.
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
    rows = config.row_counts()["train"]
    if config.solver == "eigh":
        from linearized.solvers.linear.eigh import refuse_many_rows  # SciPy is imported for this solver alone

        refuse_many_rows(rows)
    instead = "" if config.solver not in COPIES else ", or take --solver=block_lanczos, which streams K"
    refuse_beyond_machine(
        fit_bytes(config, rows), f"--solver={config.solver} with {rows:,} train rows", f"Lower --num_train{instead}."
    )


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
        return draws + count * FLOAT  # memory of the solution at one ridge
    return draws + count * FLOAT * KEPT.get(config.working_solver(), 1)
