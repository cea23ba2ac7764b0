"""Print what there is of a Gram matrix or of features: shards finished, missing, damaged, foreign, and their speed.

    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10 --noise_ind=3
    python -m kernel_gen.status --features=NTK --dataset=FMNIST                 features of a kernel
    python -m kernel_gen.status --folder=storage/cntk/...                       any folder of shards
    python -m kernel_gen.status --kernel=CNTK --dataset=CIFAR10 --verify        recomputes random entries in float64

The flags are those that the shards were made with. Temporary files and locks of jobs that were killed are removed;
nothing else is changed on disk.
"""

import collections
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernel_gen.jobs.feature_job import EmbedSettings
from kernel_gen.jobs.gram_job import KernelJobSettings
from kernel_gen.jobs.partial import share_done
from kernel_gen.jobs.verification import TOLERANCE, verify
from linearized.base.errors import UserError
from linearized.base.terminal import say
from linearized.settings.command import run_command
from linearized.settings.config import LARGEST_SEED, setting
from linearized.settings.embedding_settings import EmbeddedRows
from linearized.settings.gram_settings import GramSettings
from linearized.storage.array_files import open_hdf5
from linearized.storage.files import is_held
from linearized.storage.manifest import FEATURES, GRAM, Manifest, kind_of, load_manifest
from linearized.storage.shard_folder import tidy
from linearized.storage.shards import SPEED, check_shard


@dataclasses.dataclass(frozen=True)
class StatusSettings(EmbeddedRows, GramSettings):
    """Settings of `python -m kernel_gen.status`."""

    verify: bool = setting(
        False, "recompute random entries in float64, or random rows of features, and compare", identity=False
    )
    verify_rows: int = setting(
        16, "of each block that --verify looks at, in as many columns", minimum=1, maximum=10_000, identity=False
    )
    verify_seed: int = setting(
        0, "of the rows and columns that --verify looks at", minimum=0, maximum=LARGEST_SEED, identity=False
    )

    def job_settings(self) -> KernelJobSettings | EmbedSettings:
        """Return the settings of the command that makes the shards."""
        cls = EmbedSettings if self.features else KernelJobSettings
        names = {field.name for field in dataclasses.fields(self)} & {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: getattr(self, name) for name in names})


class ShardState(NamedTuple):
    """ShardState of a shard.

    Attributes:
        word: finished, at work, begun, missing, damaged or foreign.
        detail: More in words, or "".
        speed: Pairs, or rows of features, per second when it was made.
    """

    shard: int
    word: str
    detail: str
    speed: float


def states(folder: Path, manifest: Manifest) -> list[ShardState]:
    """Return the state of each shard, checksums compared."""
    return [_state(manifest.path(folder, shard), manifest, shard) for shard in range(len(manifest.shards))]


def _state(path: Path, manifest: Manifest, shard: int) -> ShardState:
    problem = check_shard(path, manifest, shard)
    if problem is None:
        with open_hdf5(path, whole=False) as file:
            return ShardState(shard, "finished", "", float(file.attrs[SPEED]))
    word, _, detail = problem.partition(": ")
    share = share_done(path)
    if is_held(path.with_suffix(".lock")):
        word, detail = "at work", "" if share is None else f"{share:.0%} of its tiles are done"
    elif word == "missing" and share is not None:
        word, detail = "begun", f"{share:.0%} of its tiles are done"
    return ShardState(shard, word, detail, 0.0)


def report(folder: Path) -> str:
    """Return the state of a folder as text: counts, then a line for each shard that is not finished."""
    manifest = load_manifest(folder, kind_of(folder) or GRAM)
    tidy(folder)
    found = states(folder, manifest)
    counts = collections.Counter(state.word for state in found)
    rows = ", ".join(f"{count} {block}" for block, count in manifest.rows.items())
    what = f"{manifest.dim} features of " if manifest.kind is FEATURES else ""
    lines = [
        f"{folder}",
        what + "{kernel} on {dataset}, noise level {noise_ind}".format(**manifest.settings),
        f"{rows} rows, {manifest.dtype}, scale {manifest.scale}, fingerprint {manifest.fingerprint}",
        f"{len(found)} shards: " + ", ".join(f"{count} {word}" for word, count in sorted(counts.items())),
    ]
    speeds = [state.speed for state in found if state.speed]
    if speeds:
        lines.append(
            f"rate: {np.median(speeds):,.0f} {manifest.kind.unit}/s a shard (median; {min(speeds):,.0f} to "
            f"{max(speeds):,.0f})"
        )
    for state in found:
        if state.word != "finished":
            lines.append(f"  shard {state.shard}: {state.word}{f', {state.detail}' if state.detail else ''}")
    aside = sorted(path.name for path in folder.glob("shard_*.h5.*"))
    if aside:
        lines.append(f"set aside, not used: {', '.join(aside)}")
    if counts["finished"] < len(found):
        lines.append(f"make what is not finished with: {manifest.command}")
    return "\n".join(lines)


def main(config: StatusSettings) -> None:
    """Print the report. Raises `UserError` if recomputed entries differ."""
    settings = config.job_settings()
    folder = settings.path()
    kind = kind_of(folder)
    if kind is None:
        wanted = FEATURES if config.features else GRAM
        raise UserError(f"{folder} holds no {wanted.noun}. Make it with: {settings.command()}")
    for line in report(folder).splitlines():
        say(line, indent="  " if line.startswith(" ") else "")
    if config.verify:
        compared, worst = verify(folder, count=config.verify_rows, seed=config.verify_seed)
        what, how = ("rows of features", "") if kind is FEATURES else ("entries", " in float64")
        say(f"verified: {compared} {what} recomputed{how}, worst relative error {worst:.1e}")
        tolerance = TOLERANCE[load_manifest(folder, kind).dtype]
        if not worst <= tolerance:
            raise UserError(
                f"{what.capitalize()} of {folder} differ by {worst:.1e} from those recomputed{how} (up to "
                f"{tolerance:.0e} is rounding). Remove the folder and make it anew."
            )


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those of the process, and return its exit code."""
    return run_command(StatusSettings, __doc__, main, arguments)


if __name__ == "__main__":
    sys.exit(command())
