"""The state of each shard (file) of a matrix in a folder, and a text report for `python -m kernel_gen.status`.

A shard is finished, at work (a process computes it), begun, missing, damaged (incomplete or changed) or foreign
(made with other settings).
"""

import collections
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernel_gen.jobs.partial import share_done
from linearized.storage.array_files import open_hdf5
from linearized.storage.files import is_held
from linearized.storage.manifest import FEATURES, GRAM, Manifest, kind_of, load_manifest
from linearized.storage.shard_folder import tidy
from linearized.storage.shards import SPEED, check_shard


class ShardState(NamedTuple):
    """The state of one shard of a folder.

    Attributes:
        shard: Index of the shard, from 0.
        word: "finished", "at work", "begun", "missing", "damaged" or "foreign".
        detail: The share of the shard's tiles (parts) that are done, or what is wrong with its file, in words; "" if
            there is nothing to add.
        speed: Pairs, or rows of features, per second when the shard was computed; 0 if it is not finished.
    """

    shard: int
    word: str
    detail: str
    speed: float


def states(folder: Path, manifest: Manifest) -> list[ShardState]:
    """Return the state of each shard of `folder` that `manifest` lists; checksums of finished shards are compared."""
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
    """Return a text about a folder of shards: its settings, counts of states, and each shard that is not finished.

    Temporary files of killed jobs in the folder are removed.
    """
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
            f"rate: {np.median(speeds):,.0f} {manifest.kind.unit}/s per shard (median; {min(speeds):,.0f} to "
            f"{max(speeds):,.0f})"
        )
    for state in found:
        if state.word != "finished":
            lines.append(f"  shard {state.shard}: {state.word}{f', {state.detail}' if state.detail else ''}")
    aside = sorted(path.name for path in folder.glob("shard_*.h5.*"))
    if aside:
        lines.append(f"set aside, not used: {', '.join(aside)}")
    if counts["finished"] < len(found):
        lines.append(f"compute the unfinished shards with: {manifest.command}")
    return "\n".join(lines)
