"""Embeds a dataset: features φ with φ(x)·φ(z) ≈ a kernel, in shards, each a file that is whole or absent.

    python -m kernel_gen.embed --features=NTK --activation=gelu --dataset=FMNIST --embedding_dim=4096
    python -m kernel_gen.embed --features=CNTK --dataset=CIFAR10 --embedding_dim=4096 --num_shards=50 --shard=7

n·m numbers instead of n²: time and disk grow with n. The files lie under ntk_dir, cntk_dir or rf_dir of
directories.txt, and `linearized.storage.embeddings.open_embedding(folder)` reads them. The same command again makes
what is missing.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from kernel_gen.jobs.progress import pairs_line
from linearized.base.errors import TryLater, UserError
from linearized.base.terminal import say
from linearized.data.dataset import Dataset
from linearized.data.loading import load_preprocessed
from linearized.settings.command import run_command
from linearized.settings.embedding_settings import FEATURES, EmbeddingSettings
from linearized.settings.memory import refuse_large_embedding
from linearized.settings.run_settings import ShardSettings
from linearized.storage.embeddings import (
    FILE,
    EmbeddingManifest,
    divide,
    good_number,
    load_manifest,
    save_once,
    write_shard,
)
from linearized.storage.files import Busy, held, refuse_busy
from linearized.storage.manifest import Band
from linearized.storage.shard_folder import refusals_undone, tidy
from linearized.storage.shards import check_shard, set_aside


@dataclasses.dataclass(frozen=True)
class EmbedSettings(ShardSettings, EmbeddingSettings):
    """Settings of `python -m kernel_gen.embed`."""


def features_of(settings: EmbeddingSettings):
    """Return φ of the settings for rows of their dataset. Raises `UserError` where it does not fit the data."""
    return FEATURES.load(settings.features).build(settings, settings.described().image_shape, settings.dim())


def run(config: EmbedSettings) -> list[int]:
    """Make the shard, or all that are not there. Returns those made now; finished ones are left alone.

    Raises `UserError` for what a user can mend; what was finished before is kept, and a refusal leaves nothing else
    behind. Memory: one shard.
    """
    folder = config.path()
    if not config.wait and (folder / FILE).exists():  # before the data: others may be at work on all that is to do
        known = load_manifest(folder)
        refuse_busy(known.path(folder, shard) for shard in _asked(config, len(known.shards)))
    refuse_large_embedding(config, config.described().image_shape, config.dim())
    features = features_of(config)  # before the data: they may refuse the settings
    dataset = load_preprocessed(config, config.noise_ind)
    tidy(folder)
    with refusals_undone(folder, FILE):
        return _run(config, folder, _manifest(config, dataset, features), dataset, features)


def _run(config: EmbedSettings, folder: Path, manifest: EmbeddingManifest, dataset: Dataset, features) -> list[int]:
    made, busy = [], []
    asked = _asked(config, len(manifest.shards))

    def values(band: Band) -> np.ndarray:
        return features(dataset.splits()[band.block].x[band.start : band.stop])

    total = sum(_rows(manifest, shard) for shard in asked)
    with pairs_line(f"{config.label()} of {config.dataset}", total, unit="rows") as rate:
        for shard in asked:
            path = manifest.path(folder, shard)
            try:
                with held(path.with_suffix(".lock"), wait=config.wait):
                    problem = check_shard(path, manifest, shard)
                    if problem is None:
                        rate.found(_rows(manifest, shard))
                        continue
                    if problem != "missing":
                        set_aside(path, problem)
                    write_shard(folder, manifest, shard, values)
                    rate.add(_rows(manifest, shard))
                    made.append(shard)
            except Busy:
                busy.append(shard)
    if busy:
        raise TryLater(f"Made {len(made)} shards; {len(busy)} are being made by others, the first is {busy[0]}.")
    return made


def _asked(config: EmbedSettings, count: int) -> Sequence[int]:
    return range(count) if config.shard < 0 else [config.shard]


def _rows(manifest: EmbeddingManifest, shard: int) -> int:
    return sum(band.stop - band.start for band in manifest.shards[shard])


def _manifest(config: EmbedSettings, dataset: Dataset, features) -> EmbeddingManifest:
    """`embedding.json` of the folder, written now or agreed with. Raises `UserError` if it is of another embedding."""
    folder = config.path()
    known = load_manifest(folder) if (folder / FILE).exists() else None
    rows = {name: len(split) for name, split in dataset.splits().items()}
    row_bytes = features.dim * features.dtype.itemsize
    count = config.num_shards or (len(known.shards) if known else good_number(rows, row_bytes))
    ours = EmbeddingManifest(
        settings=config.identity(), fingerprint=dataset.fingerprint, dtype=str(features.dtype),
        scale=features.scale, rows=rows, tile=1, shards=divide(rows, count), command=config.command(),
        dim=features.dim,
    )  # fmt: skip
    if config.shard >= count:
        raise UserError(f"--shard={config.shard} is out of range: the shards of {folder} are 0 to {count - 1}.")
    manifest = known or save_once(folder, ours)
    other = manifest.differences(ours)
    if len(manifest.shards) != count:
        other.append(f"num_shards is {len(manifest.shards)}, not {count}")
    if other:
        raise UserError(
            f"{folder} holds another embedding: {'; '.join(other)}. Give those settings, or another --folder."
        )
    logging.info("%s of %s: %d features, %d shards in %s", config.label(), config.dataset, manifest.dim, count, folder)
    return manifest


def main(config: EmbedSettings) -> None:
    """Makes shards."""
    made = run(config)
    say(f"{len(made)} shards made; they are in {config.path()}")


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(EmbedSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
