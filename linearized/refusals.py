"""Refuse settings of a training run that cannot work, from settings alone: before data and frameworks are loaded."""

from typing import Any

from data.errors import UserError
from linearized.ridges import chosen_indices, grid

IMAGE_MODELS = ("CNN", "KERV_CNN", "RESNET", "LAMBDA_RESNET")
KERVOLUTION_READS = {
    "kervolution_degree": ("polynomial",),
    "kervolution_offset": ("polynomial", "sigmoid"),
    "kervolution_gamma": ("gaussian",),
    "kervolution_learnable": ("polynomial", "sigmoid", "gaussian"),
}


def refuse_unfit(config: Any) -> None:
    """Raise `UserError` where model, loss, augmentation, ridges or sizes of a `train.Config` do not go together."""
    source = config.described()
    if config.model in IMAGE_MODELS and source.image_shape is None:
        raise UserError(f"{config.model} needs images, and the rows of {config.dataset} are none. Use NN, RF or NT.")
    if source.task == "regression" and config.loss != "square":
        raise UserError(f"Cross-entropy needs class labels. Use --loss=square for {config.dataset}.")
    _refuse_augmentation(config, source.image_shape)
    _refuse_kervolution(config)
    if config.model == "LAMBDA_RESNET" and config.num_units % config.lambda_heads:
        raise UserError(
            f"--num_units must be a multiple of --lambda_heads. Received: --num_units={config.num_units} "
            f"--lambda_heads={config.lambda_heads}."
        )
    asked_ridges(config)


def asked_ridges(config: Any) -> dict[int, float]:
    """Return the ridges that a run fits: λ by its index in the published grid.

    Raises `UserError` for a `--reg_index` that the grid of the model and the dataset does not have.
    """
    lambdas = grid(config.model, config.described().family, num_layers=config.num_layers)
    default = "all" if config.uses_least_squares() else "0"
    return {index: float(lambdas[index]) for index in chosen_indices(config.reg_index, len(lambdas), default=default)}


def _refuse_augmentation(config: Any, image_shape: tuple[int, int, int] | None) -> None:
    if not (config.augment_crop or config.augment_flip):
        return
    if image_shape is None:
        raise UserError(f"--augment_crop and --augment_flip move images, and the rows of {config.dataset} are none.")
    if config.augment_crop >= min(image_shape[:2]):
        raise UserError(
            f"--augment_crop must be below the sides of the images, {image_shape[0]}x{image_shape[1]}. Received: "
            f"{config.augment_crop}."
        )


def _refuse_kervolution(config: Any) -> None:
    for name, kernels in KERVOLUTION_READS.items():
        value = getattr(config, name)
        if value not in (None, False) and config.kervolution_kernel not in kernels:
            raise UserError(
                f"--{name} is read with --kervolution_kernel={', '.join(kernels)}. Received: --{name}={value} "
                f"--kervolution_kernel={config.kervolution_kernel}."
            )
