"""Verification of finished shards: stored entries are compared with recomputed ones for random rows."""

import dataclasses
from pathlib import Path

import numpy as np

from kernel_gen import KERNELS
from kernel_gen.jobs.feature_job import EmbedSettings
from kernel_gen.jobs.gram_job import KernelJobSettings
from kernel_gen.jobs.tiles import Tile
from linearized.base.errors import UserError
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.storage.manifest import FEATURES, GRAM, Manifest, kind_of, load_manifest, refuse_changed_code
from linearized.storage.shards import Stored, check_shard, read_header

# Largest relative errors of entries; they occur for nearly equal rows, where the correlation's last digits matter
TOLERANCE = {"float32": 5e-4, "float64": 1e-7}


def verify(folder: Path, *, count: int = 16, seed: int = 0) -> tuple[int, float]:
    """Recompute random entries of the finished shards, and compare them with the stored entries.

    For a Gram matrix of a kernel k, entries at random rows and columns and on the diagonal are recomputed in float64,
    and errors are relative to √(k(x,x) k(z,z)). For features φ, random rows are recomputed together with the other rows
    of their tiles, and errors are relative to ‖φ(x)‖.

    Args:
        folder: Folder of the shards.
        count: Number of rows to compare in each block (train, validation, test), and of columns.
        seed: Random-number seed of the rows and columns.

    Returns: The number of entries (or rows of features) compared, and the largest relative error.

    Raises `UserError` if no shard is finished, or if the dataset is no longer the one from which the shards were
    computed.
    """
    manifest, random = load_manifest(folder, kind_of(folder) or GRAM), np.random.default_rng(seed)
    features = manifest.kind is FEATURES
    settings = (EmbedSettings if features else KernelJobSettings).from_saved(manifest.current_settings())
    refuse_changed_code(folder, manifest, settings)
    dataset = load_preprocessed(settings, settings.noise_ind)
    if dataset.fingerprint != manifest.fingerprint:
        raise UserError(
            f"{settings.data_name()} is not what {folder} was made from (fingerprint {dataset.fingerprint}, not "
            f"{manifest.fingerprint}). Restore the previous files, or make the {manifest.kind.noun} again."
        )
    chosen = {block: _chosen(_finished(folder, manifest, block), count, random) for block in dataset.splits()}
    compare = _feature_errors if features else _gram_errors
    errors = compare(settings, dataset, manifest, chosen, count, random)
    if not errors:
        raise UserError(f"No shard of {folder} is finished, so there is nothing to verify.")
    return len(errors), float(np.max(errors))


def tolerance(manifest: Manifest) -> float:
    """Return the largest relative error of the stored entries that rounding errors can explain.

    It depends on the data type of the computation. This is the constant `PRECISION` of the kernel's module or, if the
    module has none, the data type of the entries. `manifest` is the description of the folder.
    """
    kernel = KERNELS.load(manifest.settings["kernel"])
    return TOLERANCE[getattr(kernel, "PRECISION", manifest.dtype)]


def _finished(folder: Path, manifest: Manifest, block: str) -> list[Stored]:
    """Return the bands of a block that are stored in finished shards, with their positions in the files.

    Args:
        folder: Folder of the shards.
        manifest: Description of the folder.
        block: "train", "validation" or "test".
    """
    shards = [number for number, bands in enumerate(manifest.shards) if any(band.block == block for band in bands)]
    return [
        stored
        for shard in shards
        if check_shard(path := manifest.path(folder, shard), manifest, shard, sums=False) is None
        for stored in read_header(path, manifest, shard)
        if stored.band.block == block
    ]


def _chosen(bands: list[Stored], count: int, random: np.random.Generator) -> list[tuple[Stored, int]]:
    """Return `count` random rows of stored bands, each as its band and its index, from 0 at the start of the block.

    A band is a range of rows of a block, such as the test rows.

    Rows come from as many different bands as possible. The list is empty if there are no bands.

    Args:
        bands: Stored bands to choose from.
        count: Number of rows.
        random: Generator of the choice.
    """
    chosen = [bands[i] for i in random.permutation(len(bands))[:count]]
    chosen += [bands[i] for i in random.integers(len(bands), size=count - len(chosen))] if bands else []
    return [(stored, int(random.integers(stored.band.start, stored.band.stop))) for stored in chosen]


def _gram_errors(
    settings: KernelJobSettings, dataset: Dataset, manifest: Manifest, chosen, count, random
) -> list[float]:
    kernel = dataclasses.replace(settings, dtype="float64").build(dataset.image_shape)
    x = dataset.train.x
    kernel = kernel.on(x)
    columns = np.sort(random.choice(len(x), min(count, len(x)), replace=False))
    prepared = kernel.prepare(x[columns])
    lengths = np.sqrt(np.diagonal(kernel.block(prepared, prepared, same=True)))
    errors = []
    for block, split in dataset.splits().items():
        if not chosen[block]:
            continue
        own = kernel.prepare(split.x[[row for _, row in chosen[block]]])
        expected, squares = kernel.block(own, prepared), np.diagonal(kernel.block(own, own, same=True))
        for (stored, row), values, square in zip(chosen[block], expected, squares, strict=True):
            entries = stored.mapped()[row - stored.band.start]
            there = (columns >= stored.band.left) & ((columns != row) | (block != "train"))
            scale = np.sqrt(square) * lengths[there]
            difference = np.abs(entries[columns[there] - stored.band.left] - values[there])
            errors += (difference / np.where(scale > 0, scale, 1)).tolist()
            if block == "train":
                errors.append(abs(entries[row - stored.band.left] - square) / (square or 1.0))
    return errors


def _feature_errors(settings: EmbedSettings, dataset: Dataset, manifest: Manifest, chosen, *_) -> list[float]:
    work = settings.work()
    work.prepare(dataset)
    tiles = {tile for shard in range(len(manifest.shards)) for tile in work.tiles(manifest, shard)}
    made: dict[Tile, np.ndarray] = {}
    errors = []
    for stored, row in (pair for pairs in chosen.values() for pair in pairs):
        [tile] = [tile for tile in tiles if tile.band == stored.band and tile.start <= row < tile.stop]
        if tile not in made:
            made[tile] = work.task(manifest, tile)()
        expected, found = made[tile][row - tile.start], stored.mapped()[row - stored.band.start]
        errors.append(float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0)))
    return errors
