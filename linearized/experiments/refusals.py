"""Checks that refuse training settings that cannot work, before data and frameworks are loaded."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from linearized.base.errors import UserError
from linearized.base.reading import opened
from linearized.experiments.grids import chosen_indices, grid
from linearized.models import declared, without_images
from linearized.storage.array_files import read_npz

WEIGHTS_ADVICE = (
    'Save them with np.savez("weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()}).'
)


def refuse_unfit(config: Any) -> None:
    """Raise `UserError` for training settings that do not fit together or do not fit the data.

    The checks concern model and data, loss, solver, augmentation, published weights, ridges and measurements of
    --tangent_at.

    Args:
        config: `TrainSettings` of the run.
    """
    source, own = config.described(), declared(config)
    if own.images and source.image_shape is None:
        others = ", ".join(without_images())
        raise UserError(f"{config.model} needs images, and the rows of {config.data_name()} are none. Use {others}.")
    if source.task == "regression" and config.loss != "square":
        raise UserError(f"Cross-entropy needs class labels. Use --loss=square for {config.data_name()}.")
    if config.solver == "band" and not own.formed:
        raise UserError(
            "--solver=band forms the Gram matrix of the features: of RF and NT. Received: "
            f"--model={config.model}. Use lanczos or cg."
        )
    _refuse_augmentation(config, source.image_shape)
    _refuse_weights(config)
    if own.check:
        own.check(config)
    _refuse_tangents(config, len(asked_ridges(config)))


def read_weights(config: Any) -> dict[str, np.ndarray]:
    """Return the arrays of the file of `--published_weights` by their PyTorch names; {} if the flag is not set.

    Args:
        config: `TrainSettings` of the run.

    Raises:
        Unreadable: If the file is not an .npz file of plain arrays; pickles, such as PyTorch's .pt files, are not read.
    """
    return read_npz(Path(config.published_weights), WEIGHTS_ADVICE) if config.published_weights else {}


def weights_digest(path: str) -> str:
    """Return 16 hex digits that identify the content of a file of weights. Raises `Unreadable` if it cannot be read."""
    with opened(path, "an .npz file", WEIGHTS_ADVICE) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def asked_ridges(config: Any) -> dict[int, float]:
    """Return the ridges λ that a training run fits, by their index in the model's grid.

    Args:
        config: `TrainSettings` of the run.

    Raises:
        UserError: For a `--reg_index` outside the grid of the model and the dataset.
    """
    lambdas = grid(declared(config).ridges, config.described().family, num_layers=config.num_layers)
    default = "all" if config.uses_least_squares() else "0"
    return {index: float(lambdas[index]) for index in chosen_indices(config.reg_index, len(lambdas), default=default)}


def _refuse_tangents(config: Any, ridges: int) -> None:
    """Raise `UserError` for --tangent_at with several ridges, beyond the last epoch, or together with Newton-CG.

    Args:
        config: `TrainSettings` of the run.
        ridges: Number of ridges that the run fits.
    """
    if not config.tangent_at:
        return
    if ridges > 1:
        raise UserError(
            f"--tangent_at measures the network of one ridge. Give --reg_index=0. Received: {ridges} ridges."
        )
    if config.max_ncg_iters:
        raise UserError("--tangent_at measures after epochs of SGD or Adam. Leave out --max_ncg_iters.")
    epochs, _ = config.tangent_epochs()
    if epochs and max(epochs) > config.max_cg_iters:
        raise UserError(f"--tangent_at={config.tangent_at} goes beyond the epochs. Received: --max_cg_iters="
                        f"{config.max_cg_iters}.")  # fmt: skip


def _refuse_augmentation(config: Any, image_shape: tuple[int, int, int] | None) -> None:
    if not (config.augment_crop or config.augment_flip):
        return
    if image_shape is None:
        raise UserError(
            f"--augment_crop and --augment_flip move images, and the rows of {config.data_name()} are none."
        )
    if config.augment_crop >= min(image_shape[:2]):
        raise UserError(
            f"--augment_crop must be below the sides of the images, {image_shape[0]}x{image_shape[1]}. Received: "
            f"{config.augment_crop}."
        )


def _refuse_weights(config: Any) -> None:
    """Raise `UserError` for settings of a network with which the file of `--published_weights` cannot be loaded.

    Args:
        config: `TrainSettings` of the run.
    """
    if not config.published_weights:
        return
    for name, values in declared(config).layout.items():
        if (value := getattr(config, name)) not in values:
            raise UserError(f"--published_weights needs --{name}={' or '.join(map(str, values))}. "
                            f"Received: --{name}={value}.")  # fmt: skip
