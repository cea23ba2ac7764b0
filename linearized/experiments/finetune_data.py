"""Data of `linearized finetune`, loaded in the shape of the model's inputs, and checks that they fit the model."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from linearized.base.errors import UserError
from linearized.base.lists import count_or_share
from linearized.base.reading import check_regular
from linearized.data import DATASETS
from linearized.data import load as load_published
from linearized.data.dataset import Dataset, Split, part
from linearized.data.sources import glue, image_folder
from linearized.experiments.finetune_settings import FinetuneSettings
from linearized.settings.training_settings import AugmentationSettings

if TYPE_CHECKING:
    import keras


def refuse_missing_files(config: FinetuneSettings) -> None:
    """Raise `UserError` if the folder that --data names or the file that --vocabulary names does not exist."""
    if config.data and not Path(config.data).is_dir():
        raise UserError(f"--data={config.data} is no folder. Give one of class folders of images, or of a GLUE task.")
    if config.vocabulary:
        check_regular(config.vocabulary, "Give BERT's vocab.txt, or leave out --vocabulary.")


def refuse_unfit_inputs(config: FinetuneSettings, shape: tuple[int | None, ...] | None) -> None:
    """Raise `UserError` if the model's inputs do not fit the data, or a flag is given that has no effect on these data.

    Args:
        config: Settings of the command.
        shape: Input shape of the model, with the number of rows (None) first. None, a shape that is not known, is
            refused.
    """
    if not isinstance(shape, tuple) or None in shape[1:] or len(shape) not in (2, 4):
        raise UserError("The model must take one input of known size: images (n, height, width, channels), vectors "
                        f"(n, d) or token numbers (n, length). Received: {shape}.")  # fmt: skip
    if config.dataset:
        source = DATASETS.load(config.dataset)
        size = (int(np.prod(source.image_shape)),)
        if shape[1:] not in (source.image_shape, size):
            raise UserError(f"{config.dataset} has images of shape {source.image_shape}; the model must take those, or "
                            f"rows of length {size[0]}. Received: a model of input shape {shape}.")  # fmt: skip
        return
    texts, images = (
        dict.fromkeys(("vocabulary", "casing"), "texts"),
        dict.fromkeys(("scaling", "skip_bad", *AugmentationSettings.own()), "images"),
    )
    idle = texts if len(shape) == 4 else images
    for name, kind in idle.items():
        if getattr(config, name) != FinetuneSettings.__dataclass_fields__[name].default:
            raise UserError(f"--{name} is read with {kind}. Received: --{name}={getattr(config, name)} for a model of "
                            f"input shape {shape}.")  # fmt: skip


def load_data(config: FinetuneSettings, model: "keras.Model") -> Dataset:
    """Load the data of the settings in the shape of the model's inputs, and split off the validation rows.

    Args:
        config: Settings of the command.
        model: Model that is fine-tuned.

    Raises:
        UserError: If the model has several inputs, or inputs of another shape than the data, and for other errors that
            a user can correct.
    """
    shape = getattr(model, "input_shape", None)  # a Sequential model that was never built has none
    refuse_unfit_inputs(config, shape)
    if config.dataset:
        names = ("num_train", "num_test", "validation", "seed")
        return load_published(config.dataset, config.noise_ind, **{name: getattr(config, name) for name in names})
    if len(shape) == 4:
        dataset = image_folder.load(
            config.data, shape[1:], scaling=config.scaling, seed=config.seed, skip_bad=config.skip_bad
        )
    else:
        from linearized.experiments.finetune_model import embedding_size

        dataset = glue.load(config.data, shape[1], embedding_size(model), config.vocabulary, config.casing)
    how = {"subset": "random" if len(shape) == 4 else "first", "seed": config.seed}
    train = part(dataset.train, config.num_train, what="num_train", **how)
    test = part(dataset.test, config.num_test, what="num_test", **how)
    if not config.validation:
        return dataclasses.replace(dataset, train=train, test=test)
    if dataset.validation is not None:
        raise UserError(f"{config.data} has a validation part of its own. Leave --validation at 0.")
    train, validation = _held_out(train, config.validation, config.seed)
    return dataclasses.replace(dataset, train=train, validation=validation, test=test)


def _held_out(train: Split, validation: float, seed: int) -> tuple[Split, Split | None]:
    """Split train rows at random into train rows and validation rows, and return both.

    The validation rows are None if `validation` is 0.

    Args:
        train: Train rows.
        validation: Number of validation rows, or their fraction if it is below 1.
        seed: Random-number seed of the draw.
    """
    count = count_or_share(validation, len(train), "validation")
    if not count:
        return train, None
    order = np.random.default_rng([seed, 1]).permutation(len(train))
    kept, held_out = np.sort(order[count:]), np.sort(order[:count])
    return Split(train.x[kept], train.y[kept]), Split(train.x[held_out], train.y[held_out])
