"""The runner of sharded jobs, which computes shards on all cores, skips finished shards and resumes unfinished ones.

The commands `python -m kernel_gen` and `python -m kernel_gen.embed` call `make_or_list`.
"""

import collections
import contextlib
import dataclasses
import errno
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from absl import logging

from kernel_gen.jobs.job import Job, open_job
from kernel_gen.jobs.pair_progress import Rate, pairs_line
from kernel_gen.jobs.partial import PartialShard, partial_path
from kernel_gen.jobs.tiles import Tile
from kernel_gen.jobs.work import RunnerSettings
from linearized.base.blocks import at_most, cores
from linearized.base.errors import Interrupted, TryLater, UserError
from linearized.base.terminal import say
from linearized.storage.files import Busy, held, refuse_busy
from linearized.storage.manifest import kind_of, load_manifest
from linearized.storage.shard_folder import refusals_undone


def plan(config: RunnerSettings) -> list[int]:
    """Return the indices, from 0, of the shards that are not finished.

    Files that are damaged or made with other settings are renamed first, so that they are not read as finished.

    Args:
        config: Settings of the job.

    Raises `UserError` if the folder contains another matrix or other features, or is divided into other shards.
    """
    return _plan(open_job(config))


def shard_commands(config: RunnerSettings) -> list[str]:
    """Return one command for each unfinished shard, which computes that shard.

    The commands may run in any order and on any machine that has the same folders.
    """
    job = open_job(config)
    extra = "".join(f" --{name}={value:g}" for name in ("threads", "wait") if (value := getattr(config, name)))
    folder = str(config.path().absolute())  # absolute, because another machine may run it in another folder
    command = dataclasses.replace(config, num_shards=len(job.manifest.shards), folder=folder).command()
    return [f"{command}{extra} --shard={shard}" for shard in _plan(job)]


def make_or_list(config: RunnerSettings) -> None:
    """Compute shards and print their number, or, with `--list`, print the commands that compute them."""
    if config.list:
        print("\n".join(shard_commands(config)))
    else:
        say(f"shards made: {len(run(config))}, in {config.path()}")


def run(config: RunnerSettings) -> list[int]:
    """Compute the requested shard, or all unfinished ones, and return the indices (from 0) of those computed now.

    Shards that are finished already are kept, and the same command resumes a stopped job. If an error occurs before any
    shard exists, the new folder is removed.

    Args:
        config: Settings of the job, with the index of the requested shard.

    Raises `UserError` for errors that a user can correct: another process that computes the shard, a full disk, entries
    that are not finite.
    """
    if not config.wait:
        _refuse_busy(config)
    config.refuse_large()
    if kind_of(config.path()) is None:  # otherwise some shards may be finished
        config.refuse_endless(config.amount() / (1 if config.shard < 0 else config.num_shards or math.inf))
    with refusals_undone(config.path()):
        job = open_job(config, shard=config.shard)
        shards = [config.shard] if config.shard >= 0 else _plan(job)
        config.refuse_endless(job.amount(shards))
        return make(job, shards, threads=config.threads, wait=config.wait)


def make(job: Job, shards: Sequence[int], *, threads: int = 0, wait: float = 0.0) -> list[int]:
    """Compute shards of a job and return the indices of those computed now; finished ones are not changed.

    Args:
        job: The job.
        shards: Indices of the shards, from 0.
        threads: Number of tiles computed in parallel; 0: one for each core.
        wait: Seconds to wait for another process that computes a shard.

    Raises `TryLater` if other processes are computing some of the shards; the remaining shards are computed before.
    Raises `Interrupted` for a full disk, and `UserError` for entries that are not finite and for other errors that a
    user can correct.
    """
    made, busy = [], []
    with pairs_line(job.title, job.amount(shards), job.manifest.kind.unit) as rate:
        for shard in shards:
            try:
                with held(job.lock(shard), wait=wait):
                    made += [shard] if _make(job, shard, threads or cores(), rate) else []
            except Busy as error:
                if len(shards) == 1:
                    raise TryLater(f"Shard {shard}: {error}") from error
                busy.append(shard)
            except OSError as error:
                raise _explained(error, job, shard) from error
    if busy:
        raise TryLater(
            f"Made {len(made)} shards; other processes are computing {len(busy)} of them, first {busy[0]}. Run again."
        )
    return made


def _refuse_busy(config: RunnerSettings) -> None:
    """Raise `Busy`, before data are loaded, if other processes are computing all requested unfinished shards."""
    folder = config.path()
    if kind := kind_of(folder):
        manifest = load_manifest(folder, kind)
        shards = range(len(manifest.shards)) if config.shard < 0 else [config.shard]
        refuse_busy(manifest.path(folder, shard) for shard in shards)


def _plan(job: Job) -> list[int]:
    todo = []
    with ThreadPoolExecutor(min(8, cores())) as pool:
        shards = range(len(job.manifest.shards))
        for shard, problem in zip(shards, pool.map(job.problem, shards), strict=True):
            if problem is not None:
                todo.append(shard)
                with contextlib.suppress(Busy), held(job.lock(shard)):  # busy: another process is computing it
                    job.clear(shard)
    return todo


def _make(job: Job, shard: int, threads: int, rate: Rate) -> bool:
    """Compute the tiles of a shard that are left and finish its file, or return False if it was finished already.

    Args:
        job: The job.
        shard: Index of the shard, from 0; this process holds its lock.
        threads: Number of tiles computed in parallel.
        rate: Counter of computed pairs for the progress line.
    """
    path, every = job.path(shard), job.tiles(shard)
    amount = sum(tile.amount(job.manifest) for tile in every)
    if job.clear(shard):
        partial_path(path).unlink(missing_ok=True)
        logging.info("%s was finished before", path)
        rate.found(amount)
        return False
    with PartialShard(path, job.manifest, shard, every) as partial:
        rate.found(amount - sum(tile.amount(job.manifest) for tile in partial.todo))
        if len(partial.todo) < len(every):
            logging.info("%s: %d of %d tiles are left", path, len(partial.todo), len(every))
        try:
            for tile, block in computed(job, partial.todo, threads):
                partial.write(tile, block)
                rate.add(tile.amount(job.manifest))
        except UserError:  # such as entries that are not finite: this shard can never be finished
            partial_path(path).unlink(missing_ok=True)
            raise
        partial.finish()
    logging.info("%s is finished", path)
    return True


def computed(job: Job, todo: Sequence[Tile], threads: int) -> Iterator[tuple[Tile, np.ndarray]]:
    """Yield each tile in `todo` with its entries (rows, columns), in order.

    Args:
        job: The job.
        todo: Tiles to compute.
        threads: Number of tiles computed in parallel. About as many tiles that are computed already may be in memory
            until the caller requests them. If the computation of one tile uses all cores, one tile is computed at a
            time, on `threads` cores.
    """
    if not todo:
        return
    with at_most(threads):
        job.work.start()
    inside, threads = (threads, 1) if job.work.own_threads else (1, threads)
    waiting: collections.deque[tuple[Tile, Future]] = collections.deque()
    with at_most(inside), ThreadPoolExecutor(threads) as pool:
        try:
            for tile in todo:
                waiting.append((tile, pool.submit(job.work.task(job.manifest, tile))))
                if len(waiting) >= 2 * threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for tile, future in waiting:
                yield tile, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _explained(error: OSError, job: Job, shard: int) -> Exception:
    """Return the exception to raise for an error of the file system.

    It is `Interrupted`, with an explanation for the user, if the disk is full, and otherwise `error` itself.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    size = sum(np.prod(job.manifest.shape(band)) for band in job.manifest.shards[shard])
    size *= np.dtype(job.manifest.dtype).itemsize / 2**20
    return Interrupted(
        f"The disk of {job.folder} is full; shard {shard} takes {size:,.1f} MiB. What was finished is kept: free space "
        "and give the same command again."
    )
