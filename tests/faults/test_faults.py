"""Small runs of the two loops that look for lost values: flipped bits and kills."""

import pytest
from bit_flips import flip
from kill_loop import kill_loop


@pytest.mark.filterwarnings("ignore:os.fork")
def test_flipped_bits_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("DIRECTORIES", "")
    counts, words = flip(tmp_path, 64, seed=1, with_keras=False)
    assert not words
    assert sum(count for (_, outcome), count in counts.items() if outcome in ("noticed", "replaced")) == 64


@pytest.mark.filterwarnings("ignore:os.fork")
def test_killed_commands_lose_nothing_and_leave_nothing(tmp_path):
    count = kill_loop(tmp_path, 4, seed=1, names=("kernel_gen",))
    assert count.kills >= 4
    assert not (count.wrong or count.leftovers or count.errors)
