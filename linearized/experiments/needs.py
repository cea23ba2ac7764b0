"""Checks that refuse a training run or a kernel's fit that needs more memory or time than this machine can offer.

Lower bounds of memory and of operations are compared with the machine. A run that is refused therefore cannot work, but
a run that passes may still be too large. The bounds of memory count the parameters of a model, their random draws and
the solver's copies of them or, for a kernel, the solver's matrices and coefficients. They count no memory of the
framework. `linearized.settings.operations` describes the bounds of operations.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from linearized.experiments.grids import listed_ridges
from linearized.models import declared
from linearized.settings.centre_settings import refuse_many_centres
from linearized.settings.memory import (
    DOUBLE,
    DRAWN,
    fewest_features,
    refuse_beyond_machine,
    refuse_large_embedding,
    refuse_large_kernel,
)
from linearized.settings.operations import (
    gram_pairs,
    refuse_endless,
    refuse_endless_centres,
    refuse_endless_embedding,
    refuse_endless_kernel,
)
from linearized.storage.manifest import kind_of

FLOAT = 4  # bytes of a float32
COPIES = {"band": 1, "cholesky": 1, "eigh": 3}  # solver -> arrays of K's size in memory at once; others stream K
KEPT = {"sgd": 3, "adam": 4, "adamw": 4, "newton_cg": 4}  # solver -> arrays of the parameters' size in memory at once
EPOCH = 4.0  # operations of an epoch per multiplication in a row's outputs: product and sum, and both for the gradient


def refuse_beyond_memory(config: Any) -> None:
    """Raise `UserError`, which names the flag to lower, if training a model needs more memory than the machine has.

    Args:
        config: `TrainSettings` of the run.
    """
    layers = f" --num_layers={config.num_layers}" if config.num_layers > 1 else ""
    refuse_beyond_machine(
        least_bytes(config), f"{config.model} with --num_units={config.num_units}{layers}", "Lower --num_units."
    )


def refuse_endless_training(config: Any, rows: int, operations: float) -> None:
    """Raise `UserError` if training a model by gradients at one ridge would take more than a month.

    Least-squares fits are not checked: a problem that fits in memory also has a bounded number of operations. Newton-CG
    is not checked either.

    Args:
        config: `TrainSettings` of the run.
        rows: Number of train rows; 0 if it is not known yet.
        operations: Lower bound of the operations for one row in one epoch.
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
    """Raise `UserError` if training a model by gradients at one ridge would take more than a month.

    This needs no built model: the operations follow from the model's `Declaration`. Once the model is built,
    `refuse_endless_training` checks again with the operations of its layers.

    Args:
        config: `TrainSettings` of the run.
        rows: Number of train rows; 0 if it is not known yet.
    """
    refuse_endless_training(config, rows, epoch_operations(config))


def epoch_operations(config: Any) -> float:
    """Return a lower bound of the operations for one row in one epoch of training, as the model declares it."""
    own = declared(config)
    return EPOCH * (own.multiplications or own.parameters)(config, config.dim(), config.described().num_outputs)


def refuse_endless_fit(config: Any, level: int, rows: Mapping[str, int]) -> None:
    """Raise `UserError` if computing the kernel matrix that a fit needs would take more than a month.

    Fits with --gram need no new matrix and are not checked, nor are fits of kernels that are learned from labels.

    Args:
        config: `KernelFitSettings` of the fit.
        level: Index of the noise level.
        rows: Number of rows by the name of the split: train, validation, test; 0 for a number that is not known yet.
    """
    if not (config.gram or config.by_labels()):
        refuse_endless_matrix(config, level, rows)


def refuse_endless_matrix(config: Any, level: int, rows: Mapping[str, int]) -> None:
    """Raise `UserError` if computing the Gram matrix or the features of a noise level would take more than a month.

    With --centres, only the kernel between all rows and the centres is counted. Without --centres, nothing is checked
    if some shards exist already, because the job that computes the missing shards checks them.

    Args:
        config: Settings of the fit.
        level: Index of the noise level.
        rows: Number of rows by the name of the split: train, validation, test; 0 for a number that is not known yet.
    """
    if getattr(config, "centres", 0):  # linearized theory has none
        refuse_endless_centres(config.gram_settings(level), config.centres, sum(rows.values()))
        return
    settings = config.embedding_settings(level) if config.features else config.gram_settings(level)
    if kind_of(settings.path()) is not None:
        return
    if config.features:
        refuse_endless_embedding(settings, sum(rows.values()))
    else:
        refuse_endless_kernel(settings, gram_pairs(rows))


def refuse_large_fit(config: Any) -> None:
    """Raise `UserError` if the kernel or the solver of a fit needs more memory than the machine has.

    The solver "auto" reads K from disk if a factor of K does not fit in memory, so only its coefficients are counted.

    Args:
        config: `KernelFitSettings` of the fit.
    """
    if config.features:
        rows = config.row_counts()["train"]
        refuse_large_embedding(config, config.described().image_shape, config.dim(), rows)
        features = fewest_features(config, config.dim(), rows)
        refuse_beyond_machine(
            equations_bytes(config, features), f"Ridge regression with --embedding_dim={config.embedding_dim}",
            "Lower --embedding_dim.",
        )  # fmt: skip
        return
    if not config.gram:
        refuse_large_kernel(config)
    rows = config.row_counts()["train"]
    if config.solver == "eigh":
        from linearized.solvers.linear.eigh import refuse_many_rows  # SciPy is imported for this solver alone

        refuse_many_rows(config.centres or rows)
    if config.solver == "askotch":
        from linearized.solvers.linear.askotch import refuse_blocks  # SciPy is imported for this solver alone

        refuse_blocks(rows, config.block_rows, config.preconditioner_rank)
    if config.centres:
        if rows:  # a count of 0 is not known yet
            refuse_many_centres(config.centres, rows)
        refuse_beyond_machine(
            equations_bytes(config, config.centres), f"--centres={config.centres}", "Lower --centres."
        )
        return
    instead = "" if config.solver not in COPIES else ", or take --solver=block_lanczos, which streams K"
    refuse_beyond_machine(
        fit_bytes(config, rows), f"--solver={config.solver} with {rows:,} train rows", f"Lower --num_train{instead}."
    )


def fit_bytes(config: Any, rows: int) -> int:
    """Return a lower bound of the memory in bytes that a solver of (K + ρI)α = y needs.

    The bound counts the solver's arrays of the size of K, and α and Kα at every ridge.

    Args:
        config: `KernelFitSettings` of the fit.
        rows: Number of train rows.
    """
    outputs = config.described().num_outputs
    ridges = len(listed_ridges(config.ridges)) if config.ridges else 1
    matrices = COPIES.get(config.solver, 0) * rows**2 * np.dtype(config.dtype).itemsize
    return matrices + 2 * DOUBLE * rows * outputs * ridges


def equations_bytes(config: Any, features: int) -> int:
    """Return a lower bound of the memory in bytes of a ridge regression on features.

    The bound counts the matrix of the normal equations, and the copies of it that the solver makes.

    Args:
        config: `KernelFitSettings` of the fit.
        features: Number of features, or of centres.
    """
    solver = "band" if config.solver == "auto" else config.solver
    return (1 + COPIES.get(solver, 0)) * DOUBLE * features**2


def least_bytes(config: Any) -> int:
    """Return a lower bound of the memory in bytes that training a model needs, with the random draws of its weights.

    Args:
        config: `TrainSettings` of the run.
    """
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
