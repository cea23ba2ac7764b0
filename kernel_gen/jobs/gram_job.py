"""One shard, one file: tiles on all cores; a finished shard is skipped, a half one goes on where it was."""

import collections
import contextlib
import dataclasses
import errno
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import logging

from kernel_gen.jobs.job import Job, JobSettings, open_job
from kernel_gen.jobs.partial import PartialShard, partial_path
from kernel_gen.jobs.progress import Rate, pairs_line
from kernel_gen.jobs.tiles import Tile, tiles
from kernel_gen.kernel import quiet
from linearized.base.blocks import at_most, cores
from linearized.base.errors import TryLater, UserError
from linearized.settings.config import setting
from linearized.settings.memory import refuse_large_kernel
from linearized.settings.run_settings import ShardSettings
from linearized.storage.files import Busy, held, refuse_busy
from linearized.storage.manifest import FILE, Manifest, load_manifest
from linearized.storage.shard_folder import refusals_undone


@dataclasses.dataclass(frozen=True)
class GramJobSettings(ShardSettings, JobSettings):
    """Settings of `python -m kernel_gen`."""

    threads: int = setting(0, "tiles computed side by side, 0: one a core", minimum=0, maximum=4096, identity=False)
    list: bool = setting(False, "print the commands of the shards still to do, a line each", identity=False)


def plan(config: GramJobSettings) -> list[int]:
    """The shards still to do. Bad ones are set aside first, so that nothing takes them for finished."""
    return _plan(open_job(config))


def shard_commands(config: GramJobSettings) -> list[str]:
    """The commands that make the shards still to do, in any order, on any machine that sees the same folders."""
    job = open_job(config)
    extra = "".join(f" --{name}={value:g}" for name in ("threads", "wait") if (value := getattr(config, name)))
    folder = str(config.path().absolute())  # another machine starts elsewhere
    command = dataclasses.replace(config, num_shards=len(job.manifest.shards), folder=folder).command()
    return [f"{command}{extra} --shard={shard}" for shard in _plan(job)]


def run(config: GramJobSettings) -> list[int]:
    """Make the shard, or all that are not there. Returns those made now; finished ones are left alone.

    Raises `UserError` for what a user can mend: another process on the shard, a full disk, entries that are not
    finite. What was finished before is kept, and the same command goes on; a refusal leaves nothing else behind.
    """

    def in_range(manifest: Manifest) -> None:
        count = len(manifest.shards)
        if config.shard >= count:
            raise UserError(
                f"--shard={config.shard} is out of range: the shards of {config.path()} are 0 to {count - 1}."
            )

    if not config.wait:
        _refuse_busy(config)
    refuse_large_kernel(config)
    with refusals_undone(config.path(), FILE):
        return _run(config, open_job(config, check=in_range))


def _run(config: GramJobSettings, job: Job) -> list[int]:
    one = config.shard >= 0
    asked = [config.shard] if one else _plan(job)
    total = sum(tile.pairs for shard in asked for tile in tiles(job.manifest, shard))
    made, busy = [], []
    with pairs_line(f"{config.kernel} on {config.dataset}", total) as rate:
        for shard in asked:
            try:
                with held(job.lock(shard), wait=config.wait):
                    made += [shard] if _make(job, shard, config.threads or cores(), rate) else []
            except Busy as error:
                if one:
                    raise TryLater(f"Shard {shard}: {error}") from error
                busy.append(shard)
            except OSError as error:
                raise _told(error, job, shard) from error
    if busy:
        raise TryLater(
            f"Made {len(made)} shards; {len(busy)} are being made by others, the first is {busy[0]}. Run again."
        )
    return made


def _refuse_busy(config: GramJobSettings) -> None:
    """Raise `Busy`, before data are loaded, if others are at work on all that is to do."""
    folder = config.path()
    if (folder / FILE).exists():
        manifest = load_manifest(folder)
        shards = range(len(manifest.shards)) if config.shard < 0 else [config.shard]
        refuse_busy(manifest.path(folder, shard) for shard in shards)


def _plan(job: Job) -> list[int]:
    todo = []
    with ThreadPoolExecutor(min(8, cores())) as pool:
        shards = range(len(job.manifest.shards))
        for shard, problem in zip(shards, pool.map(job.problem, shards), strict=True):
            if problem is not None:
                todo.append(shard)
                with contextlib.suppress(Busy), held(job.lock(shard)):  # busy: it is being made anew already
                    job.clear(shard)
    return todo


def _make(job: Job, shard: int, threads: int, rate: Rate) -> bool:
    """Makes a shard whose lock is held. False: it was there."""
    path, every = job.path(shard), tiles(job.manifest, shard)
    if job.clear(shard):
        partial_path(path).unlink(missing_ok=True)
        logging.info("%s was finished before", path)
        rate.found(sum(tile.pairs for tile in every))
        return False
    with PartialShard(path, job.manifest, shard) as partial:
        rate.found(sum(tile.pairs for tile in every) - sum(tile.pairs for tile in partial.todo))
        if len(partial.todo) < len(every):
            logging.info("%s: %d of %d tiles are left", path, len(partial.todo), len(every))
        try:
            for tile, block in _computed(job, partial.todo, threads):
                partial.write(tile, block)
                rate.add(tile.pairs)
        except UserError:  # such as entries that are not finite: this shard can never be finished
            partial_path(path).unlink(missing_ok=True)
            raise
        partial.finish()
    logging.info("%s is finished", path)
    return True


def _computed(job: Job, todo: list[Tile], threads: int) -> Iterator[tuple[Tile, np.ndarray]]:
    """Each tile and its entries, in order; `threads` of them are at work, and as many wait to be written."""
    if not todo:
        return
    columns, bands = job.columns, {}
    inside, threads = (threads, 1) if job.kernel.own_threads else (1, threads)

    def compute(tile: Tile, rows: Any) -> np.ndarray:
        with quiet():
            if tile.on_diagonal:
                return job.kernel.block(rows, rows, same=True)
            return job.kernel.block(rows, columns.part(tile.left, tile.right))

    waiting: collections.deque[tuple[Tile, Future]] = collections.deque()
    with at_most(inside), ThreadPoolExecutor(threads) as pool:
        try:
            for tile in todo:
                if tile.band not in bands:
                    bands = {tile.band: job.rows(tile.band)}  # of the band at work alone
                waiting.append((tile, pool.submit(compute, tile, bands[tile.band])))
                if len(waiting) >= 2 * threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for tile, future in waiting:
                yield tile, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _told(error: OSError, job: Job, shard: int) -> Exception:
    """A full disk in words; other errors as they are."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    size = sum(np.prod(job.manifest.shape(band)) for band in job.manifest.shards[shard])
    size *= np.dtype(job.manifest.dtype).itemsize / 2**20
    return UserError(
        f"The disk of {job.folder} is full; shard {shard} takes {size:,.1f} MiB. What was finished is kept: free space "
        "and give the same command again."
    )
