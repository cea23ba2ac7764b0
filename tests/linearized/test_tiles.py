"""Tiles on two worker processes: in order, at most a few at a time, and computed again when their worker dies."""

import collections
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.cluster import clients, tiles
from linearized.cluster.tiles import WINDOW, Here, OnWorkers, places


@pytest.fixture(scope="module")
def workers():
    with places(workers=2) as found:
        yield found


def test_results_are_in_the_order_of_the_tiles_whoever_is_first(workers):
    def slow_first(number, values):
        time.sleep(0.5 if number == 0 else 0)
        return number, values.sum(), os.getpid()

    shared = workers.share(np.arange(5.0))
    found = list(workers.ordered(slow_first, ((number, shared) for number in range(12))))
    assert [one[:2] for one in found] == [(number, 10.0) for number in range(12)]
    assert len({one[2] for one in found}) == 2 and os.getpid() not in {one[2] for one in found}
    assert list(workers.ordered(slow_first, [])) == []


def test_here_computes_one_tile_after_the_other():
    done = []
    results = Here().ordered(lambda number: done.append(number) or number, ((number,) for number in range(3)))
    assert next(results) == 0 and done == [0] and list(results) == [1, 2]


@pytest.mark.parametrize("room, most", [(float("inf"), WINDOW * 2), (3, 3), (0, 1)])
def test_few_tiles_are_at_work_or_wait(workers, room, most, caplog):
    drawn = []

    def numbered():
        for number in range(9):
            drawn.append(number)
            yield (number,)

    for number, result in enumerate(workers.ordered(abs, numbered(), room=room)):
        assert result == number and len(drawn) <= number + most
    assert ("Raise --memory" in caplog.text) == (room < 2)


def test_a_killed_worker_costs_the_tile_that_it_computes(workers, tmp_path):
    """The tenth tile kills its worker the first time, once earlier results have arrived; the log has all starts."""
    log, killed, arrived = tmp_path / "log", tmp_path / "killed", tmp_path / "arrived"

    def tile(number, values):
        with log.open("a") as file:
            file.write(f"{number}\n")
        if number == 9 and not killed.exists():
            while not arrived.exists():
                time.sleep(0.01)
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * values

    shared, found = workers.share(np.ones(2)), []
    for result in workers.ordered(tile, ((number, shared) for number in range(20))):
        found.append(result)
        if len(found) == 9:
            arrived.touch()
    np.testing.assert_array_equal(found, np.outer(np.arange(20), np.ones(2)))
    counts = collections.Counter(map(int, log.read_text().split()))
    assert counts == dict.fromkeys(range(20), 1) | {9: 2}


def test_shared_values_survive_the_death_of_all_workers(workers):
    shared = workers.share(np.arange(4.0))

    def total(values):
        return values.sum()

    assert list(workers.ordered(total, [(shared,)] * 4)) == [6.0] * 4
    for process in workers.client.run(os.getpid).values():
        os.kill(process, signal.SIGKILL)
    assert list(workers.ordered(total, [(shared,)] * 4)) == [6.0] * 4


def test_errors_of_tiles_and_values_that_cannot_be_sent(workers):
    def refuse(number):
        raise UserError(f"tile {number} is refused")

    with pytest.raises(UserError, match=r"^tile 3 is refused$"):
        list(workers.ordered(refuse, [(3,)]))
    with pytest.raises(FileNotFoundError, match="nonexistent"):  # of the tile, and not of the connection
        list(workers.ordered(open, [("/nonexistent",)]))
    with pytest.raises(UserError, match=r"cannot be sent to workers.*Leave out --workers"):
        workers.share(threading.Lock())


def test_failures_of_workers_and_of_the_connection_are_one_line():
    from distributed import KilledWorker

    with pytest.raises(UserError, match="Workers died repeatedly while computing"), clients.failures("computing"):
        raise KilledWorker("tile", types.SimpleNamespace(address="tcp://a:1"), 4)
    for error in (CancelledError("tile"), OSError("closed")):
        with pytest.raises(UserError, match="connection to the Dask scheduler is lost"), clients.failures("x"):
            raise error


def test_a_scheduler_that_is_lost_ends_the_tiles():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        results = OnWorkers(client).ordered(abs, ((number,) for number in range(100)))
        assert next(results) == 0
        client.close()
        with pytest.raises(UserError, match="connection to the Dask scheduler is lost"):
            list(results)


def test_workers_that_never_return_end_the_tiles(monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(tiles, "PATIENCE", 1)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        results = OnWorkers(client).ordered(abs, ((number,) for number in range(100)))
        assert next(results) == 0
        cluster.scale(0)
        with pytest.raises(UserError, match="have been gone for 1 s"):
            list(results)


@pytest.mark.slow
def test_a_worker_that_dies_twice_is_replaced_twice():
    clients.configure("--workers", retries=3)
    with clients.processes([{}], clients.new_credentials("--workers")) as client:
        for pause in (0, 14.8):  # the second death: 15 s after the first, when the cluster looks for lost workers
            time.sleep(pause)
            (victim,) = client.run(os.getpid).values()
            os.kill(victim, signal.SIGKILL)
        time.sleep(3)
        client.wait_for_workers(1, timeout=60)
        (found,) = client.run(os.getpid).values()
        assert found != victim and client.submit(abs, -1).result(timeout=60) == 1


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(UserError, match=r"--workers=2 needs the extra \[cluster\]"), places(workers=2):
        pass


def test_without_workers_tiles_are_computed_here():
    with places() as found:
        assert isinstance(found, Here) and found.parts == 1


@pytest.mark.slow
def test_the_benchmark_of_workers_tells_cpu_seconds_and_the_difference():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "kernel_ridge_centres.py"
    flags = ["--n=300", "--test=40", "--centres=30", "--ridges=3", "--workers=2"]
    done = subprocess.run([sys.executable, path, *flags], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"30 centres, (\d) workers: .* CPU ([\d.]+) s of workers .* difference ([\d.e+-]+)", done.stdout)
    assert [line[0] for line in told] == ["0", "1", "2"] and float(told[0][1]) == 0 and "times as fast" in done.stdout
    assert all(float(difference) < 1e-5 for _, _, difference in told)
