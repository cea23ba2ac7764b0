"""Tells what there is of a Gram matrix: shards finished, missing, damaged, foreign, and their rate.

    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10 --noise_ind=3
    python -m kernel_gen.status --folder=storage/cntk/...                       any folder of shards
    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10 --verify        recomputes random entries in float64

The flags are those that the matrix was made with. Temporary files and locks of jobs that were killed are removed;
nothing else is changed on disk.
"""

import collections
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernel_gen.jobs.job import JobSettings
from kernel_gen.jobs.partial import share_done
from linearized.base.errors import UserError
from linearized.base.terminal import say
from linearized.data.loading import load_preprocessed
from linearized.settings.command import run_command
from linearized.settings.config import LARGEST_SEED, setting
from linearized.storage.array_files import open_hdf5
from linearized.storage.files import is_held
from linearized.storage.manifest import FILE, Manifest, load_manifest
from linearized.storage.shard_folder import tidy
from linearized.storage.shards import check_shard, read_header

TOLERANCE = {"float32": 5e-4, "float64": 1e-7}  # of near-duplicates, whose correlation's last digits decide


@dataclasses.dataclass(frozen=True)
class StatusSettings(JobSettings):
    """Settings of `python -m kernel_gen.status`."""

    verify: bool = setting(False, "recompute random entries in float64 and compare", identity=False)
    verify_rows: int = setting(
        16, "of each block that --verify looks at, in as many columns", minimum=1, maximum=10_000, identity=False
    )
    verify_seed: int = setting(
        0, "of the rows and columns that --verify looks at", minimum=0, maximum=LARGEST_SEED, identity=False
    )


class ShardState(NamedTuple):
    """Of a shard: finished, at work, begun, missing, damaged or foreign; in words; pairs a second when it was made."""

    shard: int
    word: str
    detail: str
    rate: float


def states(folder: Path, manifest: Manifest) -> list[ShardState]:
    """Of all shards, checksums compared."""
    return [_state(manifest.path(folder, shard), manifest, shard) for shard in range(len(manifest.shards))]


def _state(path: Path, manifest: Manifest, shard: int) -> ShardState:
    problem = check_shard(path, manifest, shard)
    if problem is None:
        with open_hdf5(path, whole=False) as file:
            return ShardState(shard, "finished", "", float(file.attrs["pairs_per_second"]))
    word, _, detail = problem.partition(": ")
    share = share_done(path)
    if is_held(path.with_suffix(".lock")):
        word, detail = "at work", "" if share is None else f"{share:.0%} of its tiles are done"
    elif word == "missing" and share is not None:
        word, detail = "begun", f"{share:.0%} of its tiles are done"
    return ShardState(shard, word, detail, 0.0)


def report(folder: Path) -> str:
    """The state of a folder as text: counts, then a line a shard that is not finished."""
    manifest = load_manifest(folder)
    tidy(folder)
    found = states(folder, manifest)
    counts = collections.Counter(state.word for state in found)
    rows = ", ".join(f"{count} {block}" for block, count in manifest.rows.items())
    lines = [
        f"{folder}",
        "{kernel} on {dataset}, noise level {noise_ind}".format(**manifest.settings),
        f"{rows} rows, {manifest.dtype}, scale {manifest.scale}, fingerprint {manifest.fingerprint}",
        f"{len(found)} shards: " + ", ".join(f"{count} {word}" for word, count in sorted(counts.items())),
    ]
    rates = [state.rate for state in found if state.rate]
    if rates:
        lines.append(f"rate: {np.median(rates):,.0f} pairs/s a shard (median; {min(rates):,.0f} to {max(rates):,.0f})")
    for state in found:
        if state.word != "finished":
            lines.append(f"  shard {state.shard}: {state.word}{f', {state.detail}' if state.detail else ''}")
    aside = sorted(path.name for path in folder.glob("shard_*.h5.*"))
    if aside:
        lines.append(f"set aside, not used: {', '.join(aside)}")
    if counts["finished"] < len(found):
        lines.append(f"make what is not finished with: {manifest.command}")
    return "\n".join(lines)


def verify(folder: Path, *, count: int = 16, seed: int = 0) -> tuple[int, float]:
    """Recomputes entries of random rows and columns of finished shards in float64, the diagonal included.

    Args:
        count: Rows of each block, and columns.

    Returns: How many entries were compared, and the worst error, relative to √(k(x,x) k(z,z)). Raises `UserError` if
    there is nothing to compare, or if the dataset is no longer the one that the matrix was made from.
    """
    manifest, random = load_manifest(folder), np.random.default_rng(seed)
    settings = JobSettings.from_dict(manifest.settings)
    dataset = load_preprocessed(settings, settings.noise_ind)
    if dataset.fingerprint != manifest.fingerprint:
        raise UserError(
            f"{settings.dataset} is not what {folder} was made from (fingerprint {dataset.fingerprint}, not "
            f"{manifest.fingerprint}). Put the former files back, or make the matrix anew."
        )
    kernel = dataclasses.replace(settings, dtype="float64").build(dataset.image_shape)
    x = dataset.train.x
    columns = np.sort(random.choice(len(x), min(count, len(x)), replace=False))
    prepared = kernel.prepare(x[columns])
    lengths = np.sqrt(np.diagonal(kernel.block(prepared, prepared, same=True)))
    finished = [
        stored
        for shard in range(len(manifest.shards))
        if check_shard(path := manifest.path(folder, shard), manifest, shard, sums=False) is None
        for stored in read_header(path, manifest, shard)
    ]
    errors = []
    for block, split in dataset.splits().items():
        bands = [stored for stored in finished if stored.band.block == block]
        chosen = [bands[i] for i in random.permutation(len(bands))[:count]]
        chosen += [bands[i] for i in random.integers(len(bands), size=count - len(chosen))] if bands else []
        if not chosen:
            continue
        rows = np.array([random.integers(stored.band.start, stored.band.stop) for stored in chosen])
        own = kernel.prepare(split.x[rows])
        expected, squares = kernel.block(own, prepared), np.diagonal(kernel.block(own, own, same=True))
        for stored, row, values, square in zip(chosen, rows, expected, squares, strict=True):
            entries = stored.mapped()[row - stored.band.start]
            there = (columns >= stored.band.left) & ((columns != row) | (block != "train"))
            scale = np.sqrt(square) * lengths[there]
            difference = np.abs(entries[columns[there] - stored.band.left] - values[there])
            errors += (difference / np.where(scale > 0, scale, 1)).tolist()
            if block == "train":
                errors.append(abs(entries[row - stored.band.left] - square) / (square or 1.0))
    if not errors:
        raise UserError(f"No shard of {folder} is finished, so there is nothing to verify.")
    return len(errors), float(np.max(errors))


def main(config: StatusSettings) -> None:
    """Prints the report. Raises `UserError` if recomputed entries differ."""
    folder = config.path()
    if not (folder / FILE).exists():
        raise UserError(f"{folder} holds no Gram matrix. Make it with: {config.command()}")
    for line in report(folder).splitlines():
        say(line, indent="  " if line.startswith(" ") else "")
    if config.verify:
        compared, worst = verify(folder, count=config.verify_rows, seed=config.verify_seed)
        say(f"verified: {compared} entries recomputed in float64, worst relative error {worst:.1e}")
        tolerance = TOLERANCE[load_manifest(folder).dtype]
        if not worst <= tolerance:
            raise UserError(
                f"Entries of {folder} differ by {worst:.1e} from those recomputed in float64 (up to {tolerance:.0e} is "
                "rounding). Remove the folder and make it anew."
            )


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(StatusSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
