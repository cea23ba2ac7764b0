"""A tiny dataset of random rows with learnable labels, the settings that models read, and shards of a matrix."""

import types

import numpy as np
import pytest

from kernel_gen.jobs.tiles import divide
from linearized.data.dataset import Dataset, Split, fingerprint
from linearized.storage.gram import open_gram
from linearized.storage.manifest import Manifest, save_once
from linearized.storage.shards import write_shard


def make_dataset(task="classes", *, n=60, side=4, channels=1, classes=3, validation=False, images=True, seed=0):
    """n train rows (and 20 of each other split) of side·side·channels numbers, labelled by a random linear map."""
    random = np.random.default_rng(seed)
    dim = side * side * channels
    teacher = random.standard_normal((dim, classes))

    def split(rows):
        x = random.standard_normal((rows, dim)).astype(np.float32)
        scores = x @ teacher
        labels = {"classes": scores.argmax(1), "binary": scores[:, 0] > 0, "regression": scores[:, 0]}[task]
        return Split(x, labels.astype(np.float32)[:, None])

    train, test, held_out = split(n), split(20), split(20)
    return Dataset(
        name="TINY",
        noise_ind=0,
        train=train,
        validation=held_out if validation else None,
        test=test,
        task=task,
        num_classes={"classes": classes, "binary": 2, "regression": 0}[task],
        image_shape=(side, side, channels) if images else None,
        family="FMNIST",
        fingerprint=fingerprint(train.x, train.y),
    )


def make_config(**settings):
    """The settings that models read, small."""
    defaults = {
        "num_units": 8,
        "num_layers": 1,
        "activation": "relu",
        "drop_rate": 0.0,
        "seed": 0,
        "weight_seed": 1990,
        "law": "sphere",
        "parametrization": "published",
        "output_scale": None,
    }
    return types.SimpleNamespace(**{**defaults, "block": 0, "directions": "shared", "depth": 5, **settings})


@pytest.fixture
def tiny():
    """`tiny(task, n=, side=, ...)` makes a dataset."""
    return make_dataset


@pytest.fixture
def config():
    """`config(num_units=, ...)` makes settings."""
    return make_config


@pytest.fixture
def points():
    """Rows (60, 3) with the targets of a smooth function and noise, and 15 further rows."""
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 3))
    return x, np.sin(x[:, 0]) + 0.1 * random.standard_normal(60), random.standard_normal((15, 3))


def write_gram(folder, matrix, *, tile=16, num_shards=4):
    """Shards of a symmetric matrix in `folder`; gives the opened Gram."""
    rows = {"train": len(matrix)}
    shards = divide(rows, num_shards, tile)
    manifest = Manifest({}, "f00d", str(matrix.dtype), "stax", rows, tile, shards, "python -m kernel_gen --kernel=NTK")
    save_once(folder, manifest)
    for shard in range(num_shards):
        write_shard(folder, manifest, shard, lambda band: matrix[band.start : band.stop, band.left :])
    return open_gram(folder)


@pytest.fixture
def shards():
    """`shards(folder, matrix, tile=, num_shards=)` writes and opens a Gram matrix."""
    return write_gram
