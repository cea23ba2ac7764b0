"""Forked commands behave as new processes do: codes, outputs, environment, folder, time."""

import subprocess
import sys

import pytest

from .warm_commands import run

SCRIPT = """
import os, sys, time
print(os.getcwd(), os.environ["WARM"], sys.argv[1:], __name__, flush=True)
print("tensorflow" in sys.modules, file=sys.stderr)
kind = sys.argv[1]
if kind == "text":
    sys.exit("a line")
if kind == "raise":
    raise ValueError("raised")
if kind == "kill":
    os.kill(os.getpid(), 9)
if kind == "sleep":
    time.sleep(60)
sys.exit(int(kind))
"""


@pytest.mark.parametrize("kind", ["0", "3", "text", "raise", "kill"])
def test_forked_command_returns_what_a_new_process_returns(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("WARM", "passed on")
    (tmp_path / "script.py").write_text(SCRIPT)
    cold = subprocess.run([sys.executable, "script.py", kind], cwd=tmp_path, capture_output=True, text=True)
    warm = run(["script.py", kind], cwd=tmp_path)
    assert (warm.returncode, warm.stdout) == (cold.returncode, cold.stdout)
    assert "passed on" in warm.stdout
    assert warm.stderr.splitlines()[0] == "True" and cold.stderr.splitlines()[0] == "False"
    assert warm.stderr.splitlines()[1:][-1:] == cold.stderr.splitlines()[1:][-1:]


def test_command_is_killed_when_the_caller_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WARM", "1")
    (tmp_path / "script.py").write_text(SCRIPT)
    asked = iter((False, False, True))
    killed = run(["script.py", "sleep"], cwd=tmp_path, kill_when=lambda: next(asked))
    assert killed.returncode == -9 and list(asked) == []
    assert run(["script.py", "3"], cwd=tmp_path, kill_when=lambda: False).returncode == 3


def test_command_that_takes_too_long_is_ended_and_the_next_one_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("WARM", "1")
    (tmp_path / "script.py").write_text(SCRIPT)
    with pytest.raises(subprocess.TimeoutExpired):
        run(["script.py", "sleep"], cwd=tmp_path, timeout=1)
    assert run(["script.py", "0"], cwd=tmp_path).returncode == 0
