"""Small runs of the two loops that look for lost values, flipped bits and kills, and what these loops notice."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from linearized.cli.data import ShowDataSettings
from linearized.settings.config import parse

FOLDER = Path(__file__).parent
FEW = ("kernel_gen", "import_npy", "noisy_cache")  # killed in the quick suite: neither Keras nor child processes


@pytest.fixture
def script(monkeypatch):
    """Return a function that imports a module beside this file."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return __import__


@pytest.mark.filterwarnings("ignore:os.fork")
def test_flipped_bits_are_noticed(script, tmp_path, monkeypatch):
    monkeypatch.setenv("DIRECTORIES", "set by the script")
    bit_flips = script("bit_flips")
    counts, words = bit_flips.flip(tmp_path, 64, seed=1, with_keras=False)
    assert not words
    assert sum(count for (_, outcome), count in counts.items() if outcome in ("noticed", "replaced")) == 64


def killed(names, kills):
    """Run the loop in a fresh process: forks of this one would wait for locks of threads that earlier tests started."""
    done = subprocess.run(
        [sys.executable, FOLDER / "kill_loop.py", f"--kills={kills}", "--seed=1", f"--commands={','.join(names)}"],
        capture_output=True, text=True, timeout=590,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert all(re.search(rf"\b{name} [1-9]", done.stdout.splitlines()[-2]) for name in names), done.stdout


def test_killed_commands_lose_nothing_and_leave_nothing():
    killed(FEW, kills=len(FEW))


@pytest.mark.slow
def test_killed_commands_with_keras_or_child_processes_lose_nothing_and_leave_nothing(script):
    rest = [name for name in script("kill_commands").NAMES if name not in FEW]
    killed(rest, kills=len(rest))


def test_every_command_of_the_loop_has_a_program_and_flags_that_it_takes(script):
    table = script("kill_commands")
    found = table.commands(table.NAMES)
    assert set(table.NAMES) <= set(found)
    for command in found.values():
        assert callable(command.main) and set(command.before) <= set(found)
        parse(command.settings, list(command.flags))


def careless(path):
    """A command that writes in place: a kill leaves half a file, which the next run takes for a whole one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a,b\n1,")
        time.sleep(0.3)
        path.write_text("a,b\n1,2\n")


def litter(path):
    """A command that leaves a file under a name of its own for each run that is killed."""
    own = path.with_name(f"{os.getpid()}.tmp")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.touch()
    time.sleep(0.3)
    own.unlink()


def haunted(path):
    """A command that starts a process which never ends if the command is killed."""
    child = subprocess.Popen(["sleep", "600"])
    time.sleep(0.5)
    child.kill()
    child.wait()


@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.parametrize("main, kind", [(careless, "wrong"), (litter, "leftovers"), (haunted, "errors")])
def test_the_loop_notices_a_command_that_is_not_safe(script, tmp_path, monkeypatch, main, kind):
    loop, table = script("kill_loop"), script("kill_commands")
    command = table.Command(ShowDataSettings, lambda _: main(Path("storage/nn_dir/out.csv")))
    monkeypatch.setattr(loop, "commands", lambda names: {"unsafe": command})
    monkeypatch.setattr(loop, "warm_up", lambda names: None)
    monkeypatch.setattr(loop, "PATIENCE", 0.5)
    count = loop.kill_loop(tmp_path, 3, seed=3, names=("unsafe",))
    said = {name: getattr(count, name) for name in ("wrong", "leftovers", "errors")}
    assert count.kills["unsafe"] >= 3
    assert {name for name, lines in said.items() if lines} == {kind}, said
    assert all("of unsafe" in line for line in said[kind])


def test_values_that_differ_are_named_and_times_are_not(script, tmp_path):
    read = script("kill_values")
    folders = [tmp_path / name for name in ("one", "other")]
    for shift, folder in enumerate(folders):
        (folder / "storage").mkdir(parents=True)
        np.save(folder / "storage" / "same.npy", np.arange(3.0))
        np.save(folder / "storage" / "shifted.npy", np.arange(3.0) + 1e-3 * shift)
        (folder / "storage" / "points.csv").write_text(f"label,seconds,test_loss\nRF,{shift},0.5\n")
        rows = [{"label": "a", "seconds": shift, "test_loss": shift}]
        (folder / "storage" / "comparison.json").write_text(json.dumps({"title": "t", "columns": {}, "rows": rows}))
    different = read.differences(*map(read.values, folders))
    assert different == ["storage/comparison.json:rows", "storage/shifted.npy:array"]
    (folders[1] / "storage" / "same.npy").unlink()
    assert "storage/same.npy:array" in read.differences(*map(read.values, folders))
