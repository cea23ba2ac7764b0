"""Shards by the command: the matrix is the same whatever is killed, damaged or full on the way."""

import dataclasses
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kernel_gen import KERNELS
from kernel_gen.jobs import runner
from kernel_gen.jobs.gram_job import GramJobSettings as Config
from kernel_gen.jobs.job import open_job
from kernel_gen.jobs.partial import PartialShard
from kernel_gen.jobs.runner import plan, run, shard_commands
from linearized import open_gram
from linearized.base.errors import UserError
from linearized.base.seals import read_index
from linearized.data.loading import load_preprocessed
from linearized.data.own import source
from linearized.storage.files import held, is_held

HERE = Path(__file__).parent
SMALL = {"kernel": "INNER", "dataset": "DIGITS", "num_train": 120, "num_test": 30, "validation": 9.0, "num_shards": 3}


@pytest.fixture(autouse=True)
def inner(directories, monkeypatch):
    """The test kernel is known, here and to commands."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(KERNELS._paths, "INNER", "inner_kernel")
    path = os.pathsep.join((str(HERE), str(HERE.parents[1])))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def small(**changes) -> Config:
    return Config(**(SMALL | changes))


def start(config: Config, **environment) -> subprocess.Popen:
    """The command of the settings, started."""
    words = [f"--{name}={value}" for name, value in config.to_dict().items() if value != getattr(Config, name)]
    return subprocess.Popen(
        [sys.executable, str(HERE / "inner_kernel.py"), *words], env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(os.environ["DIRECTORIES"]).parent,
    )  # fmt: skip


def check_matrix(config: Config) -> None:
    """The folder holds x·z of all blocks and nothing half made."""
    gram, dataset = open_gram(config.path(), check=True), load_preprocessed(config, config.noise_ind)
    x, near = dataset.train.x.astype(gram.dtype), {"atol": 1e-4 if gram.dtype == np.float32 else 1e-12, "rtol": 0}
    whole = gram.to_memory()
    np.testing.assert_allclose(whole, x @ x.T, **near)
    np.testing.assert_array_equal(whole, whole.T)
    np.testing.assert_allclose(gram.test.to_memory(), dataset.test.x.astype(gram.dtype) @ x.T, **near)
    np.testing.assert_allclose(gram.validation.to_memory(), dataset.validation.x.astype(gram.dtype) @ x.T, **near)
    left = {path.suffix for path in config.path().iterdir()} - {".h5", ".json", ".damaged", ".foreign"}
    assert not left


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_shards_make_the_matrix_and_are_left_alone_after(dtype):
    config = small(dtype=dtype)
    assert run(config) == [0, 1, 2]
    check_matrix(config)
    assert open_gram(config.path()).dtype == dtype
    times = {path: path.stat().st_mtime_ns for path in config.path().glob("*.h5")}
    assert run(config) == [] and plan(config) == []
    assert run(dataclasses.replace(config, shard=1)) == []
    assert times == {path: path.stat().st_mtime_ns for path in config.path().glob("*.h5")}


def test_shards_one_by_one_are_the_matrix_of_all_at_once():
    config = small()
    assert plan(config) == [0, 1, 2]
    assert run(dataclasses.replace(config, shard=2)) == [2]
    assert plan(config) == [0, 1]
    with pytest.raises(UserError, match=r"2 of 3 shards are not ready"):
        open_gram(config.path())
    assert run(dataclasses.replace(config, num_shards=0, shard=0)) == [0]  # the folder knows how many
    assert run(config) == [1]
    check_matrix(config)


def test_the_listed_commands_make_what_is_left():
    config = small(threads=1)
    run(dataclasses.replace(config, shard=1))
    commands = shard_commands(config)
    assert [command.rpartition(" ")[2] for command in commands] == ["--shard=0", "--shard=2"]
    for command in commands:
        assert (
            command.startswith("python -m kernel_gen --") and "--threads=1" in command and "--num_shards=3" in command
        )
        words = command.split()[3:]
        done = subprocess.run([sys.executable, HERE / "inner_kernel.py", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert shard_commands(config) == []
    check_matrix(config)


def test_bad_shards_are_set_aside_and_made_anew():
    config = small()
    run(config)
    folder = config.path()
    flipped, cut = folder / "shard_0000.h5", folder / "shard_0002.h5"
    content = bytearray(flipped.read_bytes())
    content[-40] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:3000])
    assert plan(config) == [0, 2]
    assert sorted(path.name for path in folder.glob("*.damaged")) == ["shard_0000.h5.damaged", "shard_0002.h5.damaged"]
    assert run(config) == [0, 2]
    check_matrix(config)


def test_a_shard_of_another_noise_level_is_set_aside():
    config, other = small(), small(noise_ind=4)
    run(config)
    run(other)
    shutil.copy(other.path() / "shard_0001.h5", config.path() / "shard_0001.h5")
    with pytest.raises(UserError, match=r"shard_0001\.h5 is foreign: its fingerprint"):
        open_gram(config.path())
    assert run(dataclasses.replace(config, shard=1)) == [1]
    assert (config.path() / "shard_0001.h5.foreign").is_file()
    check_matrix(config)


def interrupt(config, monkeypatch, after, error):
    """Runs until `after` tiles are written, then `error`."""
    count, write = 0, PartialShard.write

    def failing(self, tile, block):
        nonlocal count
        count += 1
        if count > after:
            raise error
        write(self, tile, block)

    with monkeypatch.context() as patch, pytest.raises(UserError) as caught:
        patch.setattr(PartialShard, "write", failing)
        run(config)
    return caught.value


def test_a_disk_full_in_the_middle_of_a_tile_keeps_the_finished_ones(monkeypatch):
    config = small(shard=0, threads=1)
    told = interrupt(config, monkeypatch, 4, OSError(errno.ENOSPC, "No space left on device"))
    assert "full" in str(told) and "same command" in str(told)
    assert plan(config) == [0, 1, 2]
    computed = []
    whole = runner.computed
    monkeypatch.setattr(runner, "computed", lambda job, todo, n: computed.extend(todo) or whole(job, todo, n))
    run(config)
    everything = open_job(config).tiles(0)
    assert computed == everything[4:]
    run(small())
    check_matrix(config)


def test_a_tile_changed_on_disk_is_computed_again(monkeypatch):
    config = small(shard=0, threads=1)
    interrupt(config, monkeypatch, 4, OSError(errno.ENOSPC, "No space left on device"))
    part = config.path() / "shard_0000.part"
    content = bytearray(part.read_bytes())
    content[read_index(part, finished=False).parts[0].offset + 3] ^= 1
    part.write_bytes(content)
    computed, whole = [], runner.computed
    monkeypatch.setattr(runner, "computed", lambda job, todo, n: computed.extend(todo) or whole(job, todo, n))
    run(config)
    everything = open_job(config).tiles(0)
    assert computed == [everything[0], *everything[4:]]
    run(small())
    check_matrix(config)


@pytest.mark.parametrize("content", [b"", b"not an HDF5 file", None])
def test_an_unusable_partial_file_starts_anew(monkeypatch, content):
    config = small(shard=0)
    interrupt(config, monkeypatch, 4, OSError(errno.ENOSPC, "No space left on device"))
    part = config.path() / "shard_0000.part"
    part.write_bytes(part.read_bytes()[:2000] if content is None else content)
    run(small())
    check_matrix(config)


def test_no_space_for_a_shard_is_told_before_the_work(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = small(shard=0)
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"full; shard 0 takes"):
        patch.setattr(os, "posix_fallocate", full)
        run(config)
    assert not config.path().exists()
    run(small())
    check_matrix(config)


def test_a_really_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 400 * 1024
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        config = small(folder=str(disk / "gram"))
        (disk / "other").write_bytes(bytes(size - 80 * 1024))
        command = start(config)
        error = command.communicate()[1]
        assert "is full" in error and command.returncode == 2, error
        (disk / "other").unlink()
        command = start(config)
        assert command.wait() == 0
        check_matrix(config)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_killed_at_random_moments_it_ends_with_the_same_matrix(tmp_path):
    config, clock = small(threads=2), random.Random(7)
    kills = 0
    for _ in range(8):
        command = start(config, INNER_SLEEP="0.03")
        while command.poll() is None and not any(map(is_held, config.path().glob("*.lock"))):
            time.sleep(0.01)
        time.sleep(0.4 * clock.random())  # at work now: at the start, within a tile, between shards
        kills += command.poll() is None
        command.send_signal(signal.SIGKILL)
        command.communicate()
    assert kills >= 2
    command = start(config)
    assert command.wait() == 0
    for path in config.path().glob("*.lock"):
        path.unlink()  # of a killed process; it holds nobody up
    check_matrix(config)
    serial = dataclasses.replace(config, folder=str(tmp_path / "serial"), threads=1)
    run(serial)
    np.testing.assert_array_equal(open_gram(config.path()).to_memory(), open_gram(serial.path()).to_memory())


def test_two_jobs_on_one_shard(tmp_path):
    config = small(shard=0)
    first = start(config, INNER_SLEEP="0.1")
    lock = config.path() / "shard_0000.lock"
    while not (config.path() / "shard_0000.part").exists():
        assert first.poll() is None
        time.sleep(0.01)
    with pytest.raises(UserError, match=r"being made by other processes, the first is .*shard_0000"):
        run(config)
    assert lock.exists()
    assert run(dataclasses.replace(config, wait=60.0)) == []  # waits, and finds it finished
    assert first.wait() == 0
    run(small())
    check_matrix(config)


def test_two_jobs_on_all_shards_share_them():
    config = small()
    with (
        held(open_job(config).lock(1)),
        pytest.raises(UserError, match=r"Made 2 shards; other processes are computing 1 of them.*1"),
    ):
        run(config)
    assert plan(config) == [1]
    run(config)
    check_matrix(config)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"num_train": 100}, "num_train is 120, not 100"), ({"dtype": "float64"}, "dtype is float32, not float64"),
        ({"noise_ind": 2}, "noise_ind is 0, not 2"), ({"num_shards": 4}, "num_shards is 3, not 4"),
        ({"kernel": "POLYNOMIAL"}, "kernel is INNER, not POLYNOMIAL"),
    ],
)  # fmt: skip
def test_a_changed_setting_on_an_existing_folder_is_refused(tmp_path, change, words):
    run(small(folder=str(tmp_path / "gram"), shard=0))
    with pytest.raises(UserError, match=words):
        run(small(folder=str(tmp_path / "gram"), **change))


@pytest.mark.parametrize(
    "change, words",
    [({"shard": 3}, r"--shard=3 is out of range.*0 to 2"), ({"num_shards": 200}, r"--num_shards=200.*Take 1 to 56")],
)
def test_numbers_of_shards_out_of_range(change, words):
    with pytest.raises(UserError, match=words):
        run(small(**change))


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    command = start(small(folder=str(tmp_path / "file" / "gram")))
    error = command.communicate()[1].splitlines()[-1]
    assert command.returncode == 2 and error.startswith("error: ") and str(tmp_path / "file") in error


def test_entries_that_are_not_finite_are_refused(monkeypatch):
    import inner_kernel

    config, block = small(), inner_kernel.Inner.block

    def broken(self, one, two, **same):
        entries = block(self, one, two, **same)
        return entries if same else np.where(np.arange(len(two)) == 3, np.nan, entries)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"train row 0 and train row \d+ is nan"):
        patch.setattr(inner_kernel.Inner, "block", broken)
        run(config)
    run(config)
    check_matrix(config)


def test_help_imports_no_framework():
    code = "import sys; from kernel_gen.__main__ import *; print(run_command(GramJobSettings, '', main, ['--help'])); "
    code += "print([name for name in ('jax', 'numba', 'scipy', 'pandas', 'neural_tangents') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0\n[]\n") and "--shard=-1" in done.stdout


def test_a_folder_of_data_in_another_order_is_refused_with_what_to_do(directories, tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(20, 3)), y=np.arange(20) % 2)
    config = Config(kernel="POLYNOMIAL", data=f"{tmp_path}/a.npz")
    runner.run(config)
    monkeypatch.setattr(source, "RECIPE", -1)  # another version takes the rows in another order
    with pytest.raises(
        UserError, match=r"fingerprint is .* Remove the folder if the data, or their order, have changed"
    ):
        runner.run(config)
    with pytest.raises(UserError, match=r"another order of its rows.* Remove that folder, or give another --folder"):
        open_gram(config.path(), fingerprint="0" * 16)


def test_a_matrix_of_zeros_by_underflow_is_warned_of_once(directories, caplog):
    for std, count in ((1.0, 1), (2**0.5, 0)):
        caplog.clear()
        run(Config(num_layers=200, weight_std=std, num_train=30, num_test=10, num_shards=3))
        assert sum("Raise weight_std" in one for one in caplog.messages) == count
