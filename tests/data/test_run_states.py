"""`linearized status --runs`: runs at work and stopped ones are listed, leftovers of killed ones are removed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernel_gen import status
from linearized.settings.command import run_command
from linearized.storage.files import claimed
from linearized.storage.run_states import RUNNING, STARTED, STOPPED, run_folders, unfinished_runs

ROOT = Path(__file__).resolve().parents[2]


def write(path, content="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def run_status(capsys, *flags):
    code = run_command(status.StatusSettings, "", status.main, list(flags))
    return code, capsys.readouterr()


@pytest.fixture
def runs(directories):
    """A finished run, a finished comparison, stopped runs, and what kills left in each of them."""
    base = directories / "nn_dir" / "test"
    write(base / "done" / "result.json", "{}")
    write(base / "done" / "unfinished" / "ridge_000.h5")
    write(base / "done" / ".writing-abc" / "curves.png")
    write(base / "compared" / "comparison.json", "{}")
    write(base / "stopped" / "unfinished" / "ridge_000.h5")
    write(base / "stopped" / "unfinished" / "checkpoint_001" / "state.npz")
    write(base / "stopped" / "unfinished" / ".writing-abc" / "ridge_001.h5")
    write(base / "saving" / "model.keras")
    write(base / "notes" / "mine.txt")
    (base / "empty" / "unfinished").mkdir(parents=True)
    (directories / "rkhs_dir" / "alone" / "empty").mkdir(parents=True)
    return base


def test_stopped_runs_are_listed_and_leftovers_removed(runs, directories, capsys):
    code, said = run_status(capsys, "--runs")
    text = " ".join(said.out.split())
    assert code == 0 and f"{directories / 'nn_dir'}: 2 runs are not finished" in text
    assert f"{runs / 'stopped'}: {STOPPED} (2 ridges and checkpoints are kept)" in text
    assert f"{runs / 'saving'}: {STARTED}" in text and f"{directories / 'rkhs_dir'}: 0 runs" in text
    left = sorted(str(path.relative_to(runs)) for path in runs.rglob("*") if path.is_file())
    assert left == ["compared/comparison.json", "done/result.json", "notes/mine.txt", "saving/model.keras",
                    "stopped/unfinished/checkpoint_001/state.npz", "stopped/unfinished/ridge_000.h5"]  # fmt: skip
    assert not list(runs.rglob(".writing-*")) and not (runs / "done" / "unfinished").exists()
    assert not (runs / "empty").exists() and not (directories / "rkhs_dir" / "alone").exists()
    assert run_status(capsys, "--runs")[1].out == said.out


def test_without_a_flag_runs_are_listed_before_the_shards(runs, capsys):
    code, said = run_status(capsys)
    assert code == 2 and "2 runs are not finished" in said.out and "holds no Gram matrix" in said.err
    code, said = run_status(capsys, "--runs", "--num_layers=2")
    assert code == 2 and said.err.count("\n") == 1 and "leave out --num_layers" in said.err


def test_runs_at_work_are_left_alone(runs):
    names = [folder.name for folder in run_folders(runs.parent)]
    with claimed(runs / "stopped"), claimed(runs / "done"):
        found = {state.folder.name: state.word for state in unfinished_runs(runs.parent)}
        assert found == {"stopped": RUNNING, "done": RUNNING, "saving": STARTED}
        assert (runs / "stopped" / "unfinished" / "ridge_000.h5").is_file()
        assert (runs / "done" / "unfinished" / "ridge_000.h5").is_file()
    assert {state.folder.name: state.word for state in unfinished_runs(runs.parent)} == {
        "stopped": STOPPED, "saving": STARTED}  # fmt: skip
    assert [folder.name for folder in run_folders(runs.parent)] == [name for name in names if name != "empty"]


def test_folders_of_results_need_not_be_there(directories, capsys):
    code, said = run_status(capsys, "--runs")
    assert code == 0 and said.out.count("0 runs are not finished") == 2
    assert not directories.exists()


def test_no_framework_is_imported(runs):
    code = (
        "import sys; from kernel_gen.status import command; code = command(['--runs'])\n"
        "found = [name for name in ('tensorflow', 'keras', 'jax', 'numba', 'pandas') if name in sys.modules]\n"
        "sys.exit(str(found) if found else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_killed_run_is_listed_and_goes_on(directories, capsys):
    """A real one, killed between its ridges: running, then stopped, then finished by the same command."""
    words = [sys.executable, "-m", "linearized", "train", "--model=NN", "--num_units=8", "--num_train=60",
             "--num_test=10", "--reg_index=0,1", "--max_cg_iters=40", "--checkpoint_seconds=1"]  # fmt: skip
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not list((directories / "nn_dir").rglob("ridge_000.h5")):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        assert "running" in run_status(capsys, "--runs")[1].out
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert "goes on with the same command" in " ".join(run_status(capsys, "--runs")[1].out.split())
    assert subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 0
    assert "0 runs are not finished" in run_status(capsys, "--runs")[1].out
    (record,) = (directories / "nn_dir").rglob("result.json")
    assert len(json.loads(record.read_text())["ridges"]) == 2
