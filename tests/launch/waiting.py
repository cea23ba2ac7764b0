"""Waits of the tests of launches, each of them bounded."""

import time
from pathlib import Path

PATIENCE = 60  # seconds


def until(true, what):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.05)


def alive(pid):
    """Whether a process runs (one that waits for its parent to notice its end does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
