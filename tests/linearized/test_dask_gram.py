"""Products on a cluster of two workers: as in one process, whoever dies."""

import os
import signal
import sys

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.cluster import clients
from linearized.problems import GramProblem
from linearized.problems.dask_gram import DaskGramProblem
from linearized.solvers.linear import block_lanczos
from linearized.storage.gram import open_gram

RUN = {"rtol": 1e-9, "atol": 0.0}


@pytest.fixture(scope="module")
def cluster():
    """Two workers, processes of one thread, on the loopback address.

    The cluster closes the nanny of a worker that is absent 15 s after its death, and does not notice when this is
    a second death, of a worker that is being replaced: two tests that kill workers must not depend on their distance.
    """
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.worker-ttl": None, "distributed.deploy.lost-worker-timeout": "1 day"}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.fixture
def example(shards, tmp_path):
    """An opened Gram of 200 rows, the matrix itself, labels."""
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 5))
    matrix = np.exp(-np.square(x[:, None] - x).sum(axis=-1) / 8).astype(np.float32)
    return shards(tmp_path / "gram", matrix, tile=10, num_shards=10), matrix, random.standard_normal((200, 3))


def test_products_and_answers_are_those_of_one_process(client, example):
    gram, matrix, targets = example
    problem = DaskGramProblem(gram, targets, scheduler=client, memory=2**30)
    assert problem.streamed and len(problem._parts) > 2
    product = problem.primal_product(targets)
    np.testing.assert_allclose(product, matrix.astype(np.float64) @ targets, rtol=0, atol=1e-12)
    assert problem.seconds_reading > 0 and problem.passes == 1
    np.testing.assert_array_equal(problem.dense(), matrix)
    ours = block_lanczos.solve(problem, [1e-2, 1.0], **RUN)
    for one, other in zip(block_lanczos.solve(GramProblem(matrix, targets), [1e-2, 1.0], **RUN), ours, strict=True):
        assert other.converged and other.iterations == one.iterations
        np.testing.assert_allclose(other.value, one.value, rtol=0, atol=1e-9 * np.abs(one.value).max())


def test_a_worker_killed_in_the_middle_changes_nothing(client, example):
    gram, matrix, targets = example
    problem, killed = DaskGramProblem(gram, targets, scheduler=client), []

    def killer(iteration, *_):
        if iteration == 3:
            victim = min(client.run(os.getpid).values())
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    ours = block_lanczos.solve(problem, [1e-2, 1.0], **RUN, progress=killer)
    client.wait_for_workers(2, timeout=60)
    assert len(killed) == 1 and killed[0] not in client.run(os.getpid).values()
    for one, other in zip(block_lanczos.solve(GramProblem(matrix, targets), [1e-2, 1.0], **RUN), ours, strict=True):
        assert other.converged and other.iterations == one.iterations > 3
        np.testing.assert_allclose(other.value, one.value, rtol=0, atol=1e-9 * np.abs(one.value).max())


def test_a_worker_killed_while_it_multiplies_is_replaced(client, example, tmp_path):
    gram, matrix, targets = example
    problem, flag = DaskGramProblem(gram, targets, scheduler=client), str(tmp_path / "killed")

    def die_once():
        """On a worker: the first to open a part of K kills its process."""
        from linearized.problems import dask_gram

        def opened(key, part):
            try:
                os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                dask_gram._opened = original
            return original(key, part)

        original, dask_gram._opened = dask_gram._opened, opened

    client.run(die_once)
    product = problem.primal_product(targets)
    client.wait_for_workers(2, timeout=60)
    assert (tmp_path / "killed").exists()
    np.testing.assert_allclose(product, matrix.astype(np.float64) @ targets, rtol=0, atol=1e-12)


def test_the_address_of_a_scheduler_will_do(cluster, example):
    gram, matrix, targets = example
    problem = DaskGramProblem(gram, targets, scheduler=cluster.scheduler_address)
    product = problem.primal_product(targets)
    np.testing.assert_allclose(product, matrix.astype(np.float64) @ targets, rtol=0, atol=1e-12)
    problem.close()
    assert problem.client.status == "closed"


def test_a_damaged_shard_is_named_by_the_worker_that_reads_it(client, example):
    gram, _, targets = example
    victim = gram._stored[3]
    content = bytearray(victim.path.read_bytes())
    content[victim.offset + 5] ^= 4
    victim.path.write_bytes(content)
    problem = DaskGramProblem(open_gram(gram.folder), targets, scheduler=client)
    with pytest.raises(UserError, match=rf"{victim.path.name} is damaged.*--shard="):
        problem.primal_product(targets)


def test_a_folder_that_workers_do_not_see_is_told(client, example):
    gram, _, targets = example
    problem = DaskGramProblem(gram, targets, scheduler=client)
    gram.folder.rename(gram.folder.with_name("elsewhere"))
    with pytest.raises(UserError, match="worker sees no folder"):
        problem.primal_product(targets)


def test_the_rate_of_reading_is_a_workers(client, example):
    gram, _, targets = example
    assert DaskGramProblem(gram, targets, scheduler=client).block >= 3


def test_what_cannot_work_is_refused(example, monkeypatch):
    gram, matrix, targets = example
    with pytest.raises(UserError, match="from shards"):
        DaskGramProblem(matrix, targets, scheduler="tcp://127.0.0.1:9")
    monkeypatch.setattr(clients, "TIMEOUT", 1)
    with pytest.raises(UserError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskGramProblem(gram, targets, scheduler="tcp://127.0.0.1:9")
    for name in ("distributed", "distributed.security"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r'pip install .*"\.\[cluster\]"'):
        DaskGramProblem(gram, targets, scheduler="tcp://127.0.0.1:9")


def test_a_scheduler_without_workers_is_refused(example, monkeypatch):
    from distributed import LocalCluster

    gram, _, targets = example
    monkeypatch.setattr(clients, "TIMEOUT", 1)
    with LocalCluster(n_workers=0, dashboard_address=":0") as empty, pytest.raises(UserError, match="has no workers"):
        DaskGramProblem(gram, targets, scheduler=empty.scheduler_address)
