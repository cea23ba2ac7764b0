"""Processes of a pool do not outlive the process that started them."""

import os
import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import sys, time
from pathlib import Path
from linearized.base.child_processes import spawned_pool
from tests_of_pool import work

if __name__ == "__main__":
    with spawned_pool(1) as pool:
        pool.submit(work, sys.argv[1]).result()
"""
WORK = """
import os, time
from pathlib import Path

def work(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)
"""


SCRIPT = """
import os, sys
from linearized.base.child_processes import spawned_pool

print("the script runs")
with spawned_pool(2) as pool:
    found = {pool.submit(os.getppid).result()}
print(found == {os.getpid()}, sys.modules["__main__"].__file__ == __file__)
"""


def test_a_script_without_a_guard_is_not_run_again_by_the_processes_of_a_pool(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("the script runs\nTrue True\n", 0), done.stderr


def running(pid):
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_process_takes_its_pool_with_it(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "tests_of_pool.py").write_text(WORK)
    path = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(path)], env={**os.environ})
    try:
        end = time.monotonic() + 60
        while not (path.exists() and path.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        child = int(path.read_text())
        assert running(child)
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + 30
    while running(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not running(child)
