"""`linearized krr --kernel=RFM` where K does not fit in `--memory`: as in memory, resumed, and clean afterwards."""

import errno
import os

import numpy as np
import pytest

from kernel_gen.jobs.partial import PartialShard
from kernel_gen.kernels.radial import RadialKernel
from linearized.base.errors import UserError
from linearized.cli import krr as krr_command
from linearized.experiments import feature_machine_iterations, feature_machine_solve
from linearized.experiments.krr import KernelFitSettings as Config
from linearized.experiments.krr import run
from linearized.storage.gram import Gram
from linearized.storage.results import load_arrays

SMALL = {"kernel": "RFM", "dataset": "SYNTH", "synth_dim": 25, "synth_eta": 0.5, "synth_n": 1000, "noise_ind": "6",
         "num_train": 180, "num_test": 60, "validation": 60, "iterations": 2, "ridges": "0.01,0.1,10"}  # fmt: skip
TINY = 5e-5  # GiB, less than K of 120 rows in float32
LARGE = 1.0
TILES = 43


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of at most 16 rows, of which 120 train rows have `TILES` in 4 shards."""
    monkeypatch.setattr(RadialKernel, "tile", 16)


def observed(monkeypatch):
    """Return two lists, of the learned metrics and of the type of K, which runs fill."""
    metrics, matrices = [], []
    learn, solve = feature_machine_iterations.next_metric, feature_machine_solve.solved
    monkeypatch.setattr(feature_machine_iterations, "next_metric",
                        lambda *given, **named: metrics.append(learn(*given, **named)) or metrics[-1])  # fmt: skip
    monkeypatch.setattr(feature_machine_solve, "solved",
                        lambda *given, **named: matrices.append(type(given[2])) or solve(*given, **named))  # fmt: skip
    return metrics, matrices


def agree(one, other, rtol):
    """Compare the tables of two runs, split by split and ridge by ridge, and the best metric and predictions."""
    steps = [found.record["feature_machine"]["steps"] for found in (one, other)]
    assert len(steps[0]) == 3
    for mine, yours in zip(*steps, strict=True):
        for name in ("train_loss", "validation_loss", "test_loss", "ridge"):
            found, expected = ([entry[name] for entry in step["ridges"]] for step in (mine, yours))
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-3 * rtol * max(expected))
        for name in ("bandwidth", "effective_rank", "overlap"):
            assert mine[name] == pytest.approx(yours[name], rel=rtol)
    assert one.record["feature_machine"]["best"] == other.record["feature_machine"]["best"]
    mine, yours = load_arrays(one.folder), load_arrays(other.folder)
    for name in ("feature_machine/metric", "predictions/test", "predictions/validation"):
        np.testing.assert_allclose(mine[name], yours[name], atol=max(rtol, 1e-6) * np.abs(yours[name]).max())


@pytest.mark.parametrize("dtype, memory, rtol, room", [("float64", 1e-4, 1e-11, 1e-8), ("float32", TINY, 1e-6, 1e-3)])
@pytest.mark.parametrize("more", [{}, {"rfm_diagonal": True, "rfm_sample": 40}, {"ridges": ""}])
def test_every_iteration_of_the_streamed_run_is_that_of_the_run_in_memory(
    dtype, memory, rtol, room, more, directories, monkeypatch
):
    metrics, matrices = observed(monkeypatch)
    flags = {**SMALL, "dtype": dtype, "rtol": rtol, **more}
    streamed = run(Config(**flags, memory=memory))[0]
    assert matrices == [Gram] * 3 and streamed.record["solver"]["name"] == "block_lanczos"
    held = run(Config(**flags, memory=LARGE, job_id=1))[0]
    assert matrices[3:] == [np.ndarray] * 3 and held.record["solver"]["name"] == "band"
    agree(streamed, held, room)
    for mine, yours in zip(metrics[:2], metrics[2:], strict=True):
        np.testing.assert_allclose(mine, yours, atol=room * np.abs(yours).max())
    assert not (streamed.folder / "unfinished").exists()


def test_a_solver_that_streams_holds_a_small_matrix_and_a_solver_that_factors_holds_any(directories, monkeypatch):
    matrices = observed(monkeypatch)[1]
    run(Config(**SMALL, solver="block_lanczos", memory=LARGE))
    run(Config(**SMALL, solver="cholesky", memory=TINY))
    assert matrices == [np.ndarray] * 6
    run(Config(**SMALL, solver="cg", memory=TINY))
    assert matrices[6:] == [Gram] * 3


def stopped_at(place, monkeypatch, patch):
    """Stop the process in iteration 1: while K is written, while it is solved, or while gradients are computed."""
    count = 0

    def stopping(function, after):
        def call(*given, **named):
            nonlocal count
            count += 1
            if count > after:
                raise KeyboardInterrupt
            return function(*given, **named)

        return call

    if place == "tiles":
        patch.setattr(PartialShard, "write", stopping(PartialShard.write, TILES + 20))
    elif place == "solver":
        patch.setattr(feature_machine_solve, "outputs_of", stopping(feature_machine_solve.outputs_of, 1))
    else:
        patch.setattr(feature_machine_iterations, "next_metric", stopping(feature_machine_iterations.next_metric, 1))


@pytest.mark.parametrize("place, tiles", [("tiles", TILES - 20), ("solver", 0), ("gradients", 0)])
def test_a_killed_run_goes_on_with_the_finished_tiles_and_ends_as_an_uninterrupted_one(
    place, tiles, directories, monkeypatch
):
    config = Config(**SMALL, memory=TINY)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_at(place, monkeypatch, patch)
        run(config)
    [folder] = (config.folder() / "unfinished").glob("iteration_*")
    assert folder.name.startswith("iteration_000_0001")
    written, write = [], PartialShard.write
    with monkeypatch.context() as patch:
        patch.setattr(PartialShard, "write", lambda self, *given: written.append(self) or write(self, *given))
        resumed = run(config)[0]
    assert len(written) == tiles + TILES  # the rest of iteration 1, and iteration 2
    whole = run(Config(**SMALL, memory=TINY, job_id=1))[0]
    agree(resumed, whole, 1e-4)
    assert sorted(path.name for path in resumed.folder.iterdir()) == sorted(
        path.name for path in whole.folder.iterdir()
    )
    assert not (resumed.folder / "unfinished").exists()


def test_tiles_of_another_metric_are_not_used(directories, monkeypatch):
    config = Config(**SMALL, memory=TINY)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_at("solver", monkeypatch, patch)
        run(config)
    path = config.folder() / "unfinished" / "metric_000_0001.npz"
    path.write_bytes(path.read_bytes()[:-20])  # it is learned again, from other gradients
    learn = feature_machine_iterations.next_metric
    monkeypatch.setattr(feature_machine_iterations, "next_metric", lambda *given, **named: learn(*given, **named) * 2)
    written, write = [], PartialShard.write
    monkeypatch.setattr(PartialShard, "write", lambda self, *given: written.append(self) or write(self, *given))
    assert run(config)[0].record["feature_machine"]["steps"]
    assert len(written) == 2 * TILES


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(directories, monkeypatch, capsys):
    flags = [f"--{name}={value}" for name, value in {**SMALL, "memory": TINY}.items()]
    count, write = 0, PartialShard.write

    def full(self, *given):
        nonlocal count
        count += 1
        if count > TILES + 10:  # in iteration 1, whose other errors end the variant
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(PartialShard, "write", full)
        assert krr_command.command(flags) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "is full" in line and "give the same command again" in line and "iteration_000_0001" in line
    config = Config(**SMALL, memory=TINY)
    assert (config.folder() / "unfinished" / "step_000_0000.npz").exists()
    rest = []
    monkeypatch.setattr(PartialShard, "write", lambda self, *given: rest.append(self) or write(self, *given))
    assert krr_command.command(flags) == 0
    assert len(rest) == TILES - 10 + TILES and not (config.folder() / "unfinished").exists()


def test_a_shard_damaged_between_passes_is_one_line_and_is_made_again(directories, monkeypatch):
    config, solve = Config(**SMALL, memory=TINY), feature_machine_solve.solved

    def damaging(config, dataset, matrix, *given, **named):
        stored = matrix._stored[0]
        content = bytearray(stored.path.read_bytes())
        content[stored.offset] ^= 1
        stored.path.write_bytes(content)
        return solve(config, dataset, matrix, *given, **named)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"damaged: .* made again by the same command"):
        patch.setattr(feature_machine_solve, "solved", damaging)
        run(config)
    agree(run(config)[0], run(Config(**SMALL, memory=LARGE, job_id=1))[0], 1e-3)


def test_leave_one_out_errors_that_do_not_fit_in_memory_are_refused_before_the_work(directories):
    with pytest.raises(UserError, match=r"leave-one-out .*Give --validation=0.2 or --centres, or raise --memory"):
        run(Config(**{**SMALL, "validation": 0.0}, memory=TINY))
