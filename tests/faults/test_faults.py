"""Small runs of the two loops that look for lost values: flipped bits and kills."""

import importlib.util
from pathlib import Path

import pytest


def script(name):
    """A module beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:os.fork")
def test_flipped_bits_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("DIRECTORIES", "set by the script")
    bit_flips = script("bit_flips")
    counts, words = bit_flips.flip(tmp_path, 64, seed=1, with_keras=False)
    assert not words
    assert sum(count for (_, outcome), count in counts.items() if outcome in ("noticed", "replaced")) == 64


@pytest.mark.filterwarnings("ignore:os.fork")
def test_killed_commands_lose_nothing_and_leave_nothing(tmp_path):
    count = script("kill_loop").kill_loop(tmp_path, 4, seed=1, names=("kernel_gen",))
    assert count.kills >= 4
    assert not (count.wrong or count.leftovers or count.errors)
