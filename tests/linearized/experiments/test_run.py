"""The life of a run: read back, claim, work, save, clean up, and the record of what made it."""

import dataclasses
import errno
import os
import platform
import shlex
import shutil
import subprocess

import numpy as np
import pytest

from linearized.base.errors import UserError
from linearized.experiments import provenance
from linearized.experiments.run import Outcome, Store, run
from linearized.settings.config import Settings, parse, setting
from linearized.storage import results
from linearized.storage.files import Busy, claimed


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Settings of a run in these tests."""

    size: int = setting(1, "a number")
    weight_seed: int = setting(5, "a seed")


RECORD = {
    "title": "T", "settings": {}, "data": {"name": "D", "fingerprint": "f", "dim": 1, "n_train": 2}, "model": {},
    "solver": {"name": "s", "step": "step", "history": "loss"}, "chosen": {"position": 0, "index": 0, "by": "x"},
    "ridges": [{"index": 0, "ridge": 1.0, "iterations": 1, "converged": True, "diverged": False, "test_loss": 1.0}],
}  # fmt: skip


def outcome(**more):
    return Outcome(RECORD, {"x": np.arange(3.0)}, {"model.bin": lambda path: path.write_bytes(b"model")}, **more)


def good_work(unfinished):
    unfinished.mkdir(exist_ok=True)
    (unfinished / "state").write_bytes(b"state")
    return outcome()


def never(_unfinished):
    pytest.fail("the work was done")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_leaves_its_result_and_nothing_else_and_is_read_back(tmp_path):
    made = run(tmp_path / "run", Config(), "python t.py", good_work)
    assert made.fresh and names(tmp_path / "run") == ["arrays.h5", "model.bin", "result.json"]
    np.testing.assert_array_equal(results.load_arrays(tmp_path / "run")["x"], np.arange(3.0))
    again = run(tmp_path / "run", Config(), "python t.py", never)
    assert not again.fresh and again.record == made.record == results.load(tmp_path / "run")


def test_the_record_says_what_made_it(tmp_path):
    record = run(tmp_path / "run", Config(size=3), "python t.py", good_work).record
    assert record["format"] == 3
    assert record["command"] == "python t.py --size=3"
    made = record["made_by"]
    assert made["seeds"] == {"weight_seed": 5}
    assert made["version"] == record["versions"]["linearized"]
    assert made["machine"]["name"] == platform.node() and made["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert made["machine"]["processor"] and made["machine"]["memory_gib"] > 0
    assert 0 <= record["seconds"] < 60


def test_a_busy_folder_is_refused_before_the_work(tmp_path):
    with claimed(tmp_path / "run"), pytest.raises(Busy) as refused:
        run(tmp_path / "run", Config(), "python t.py", never)
    assert refused.value.code == 75 and not (tmp_path / "run").exists()


def test_refused_work_leaves_no_trace(tmp_path):
    def refused(unfinished):
        good_work(unfinished)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        run(tmp_path / "a" / "run", Config(), "python t.py", refused)
    assert not list(tmp_path.iterdir())


def test_stopped_work_keeps_its_checkpoints(tmp_path):
    def stopped(unfinished):
        good_work(unfinished)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", Config(), "python t.py", stopped)
    assert names(tmp_path / "run" / "unfinished") == ["state"]


def test_a_disk_that_is_full_while_saving_leaves_the_checkpoints_alone(tmp_path):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    def arrays_then_full(folder, record, arrays):
        results.save(folder, record, arrays)
        (folder / "result.json").unlink()
        full()

    for store, files in ((Store(save=arrays_then_full), outcome().files), (Store(), {"model.bin": full})):

        def work(unfinished, files=files):
            good_work(unfinished)
            return dataclasses.replace(outcome(), files=files)

        with pytest.raises(OSError, match="No space"):
            run(tmp_path / "run", Config(), "python t.py", work, store=store)
        assert names(tmp_path / "run") == ["unfinished"] and names(tmp_path / "run" / "unfinished") == ["state"]
    assert run(tmp_path / "run", Config(), "python t.py", good_work).fresh
    assert not (tmp_path / "run" / "unfinished").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_is_that_of_the_suites_own_repository(tmp_path):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    commit = provenance.commit.__wrapped__
    assert commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-qm", "first")
    git("tag", "-am", "a tag", "v1")
    assert commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a.py").write_text("2")
    assert commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"
    (tmp_path / "site-packages").mkdir()
    assert commit(tmp_path / "site-packages") is None  # an environment within someone's repository


def test_the_command_of_a_result_makes_the_same_run(directories):
    from linearized.cli import COMMANDS
    from linearized.experiments import krr as kernel_fit
    from linearized.experiments import train

    for module, config in (
        (
            train,
            train.TrainSettings(num_units=8, num_train=40, num_test=10, weight_seed=7, exp_name="e", reg_index="5"),
        ),
        (
            kernel_fit,
            kernel_fit.KernelFitSettings(kernel="POLYNOMIAL", num_train=40, num_test=10, ridges="0.1,1", noise_ind="0"),
        ),
    ):
        [result] = module.run_levels(config)
        words = shlex.split(result.record["command"])
        assert words[0] == "linearized" and words[1] in COMMANDS  # which an installation without the repository has
        [again] = module.run_levels(parse(type(config), words[2:]))
        assert not again.fresh and again.folder == result.folder
        assert result.record["made_by"]["seeds"]["weight_seed"] == config.weight_seed


class Here:
    """A pool that works in this process, where a new one would take seconds."""

    def __init__(self, *_args, **_settings):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        return None

    def submit(self, function, *args):
        value = function(*args)
        return type("Done", (), {"result": lambda self: value})()


def test_a_killed_comparison_goes_on_with_the_runs_that_are_missing(directories, monkeypatch):
    from linearized.experiments import compare, train

    monkeypatch.setattr(compare, "spawned_pool", Here)
    config = compare.CompareSettings(models="RF,NT", num_units=4, num_train=40, num_test=10, reg_index="5", seeds=2)
    fitted, whole = [], train._fitted

    def until_the_third(run, level, unfinished, *alone):
        fitted.append((run.model, run.weight_seed - config.weight_seed))
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return whole(run, level, unfinished, *alone)

    monkeypatch.setattr(train, "_fitted", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        compare.run(config)
    record = compare.run(config).record
    assert fitted == [("RF", 0), ("RF", 1), ("NT", 0), ("NT", 0), ("NT", 1)]
    assert [(row["label"], row["seed"]) for row in record["rows"]] == [("RF", 0), ("RF", 1), ("NT", 0), ("NT", 1)]


def test_a_comparison_is_read_back_while_its_runs_are_there(directories, monkeypatch):
    from linearized.experiments import compare, train

    monkeypatch.setattr(compare, "spawned_pool", Here)
    config = compare.CompareSettings(models="RF,NT", num_units=4, num_train=40, num_test=10, reg_index="5")
    first = compare.run(config)
    assert first.fresh and [row["label"] for row in first.record["rows"]] == ["RF", "NT"]
    words = shlex.split(first.record["command"])
    assert parse(compare.CompareSettings, words[2:]) == config and "version" in first.record["made_by"]
    assert names(first.folder) == ["comparison.json"]
    again = compare.run(config)
    assert not again.fresh and again.record == first.record
    assert compare.run(dataclasses.replace(config, num_train=30)).folder != first.folder
    shutil.rmtree(next(iter(config.runs().values())).folder())  # the way to have a run made anew
    renewed = compare.run(config)
    assert renewed.fresh and results.finished(next(iter(config.runs().values())).folder())
    assert isinstance(train.run(next(iter(config.runs().values()))).record, dict)
