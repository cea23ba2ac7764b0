"""What other systems lack is blocked: every module is still imported, and runs or says in one line what to do."""

import os
import resource
import subprocess
import sys

import psutil  # noqa: F401 - as this system has it, before another is played
import pytest

from linearized.base import platforms
from linearized.base.errors import UserError

WITHOUT = """
import importlib, pkgutil, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
packages = ("base", "cli", "data", "launch", "learning_theory", "report.recipes", "settings", "storage")
for name in ("kernel_gen.jobs", *(f"linearized.{package}" for package in packages)):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if "launch.launchers" not in module.name:  # those need Dask
            importlib.import_module(module.name)
from linearized.cli import main
sys.exit(main(["train", "--dataset=DIGITS", "--num_units=8", "--num_train=40", "--num_test=20"]))
"""

MACOS = """
import os, sys
import matplotlib.pyplot, numpy, pandas, psutil, scipy.linalg  # as this system has them
for name in ("sched_getaffinity", "posix_fallocate", "pidfd_open"):
    delattr(os, name)
sys.platform = "darwin"
from linearized.cli import main
sys.exit(main(["krr", "--dataset=DIGITS", "--kernel=RF", "--num_train=40", "--num_test=20"]))
"""


def test_without_posix_locks_every_module_is_imported_and_a_run_names_wsl(directories):
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "wsl --install" in done.stderr and "Traceback" not in done.stderr


def test_run_works_without_what_macos_lacks(directories):
    done = subprocess.run([sys.executable, "-c", MACOS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_locks_exclude_and_share(tmp_path):
    path = tmp_path / "lock"
    one, two = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    platforms.lock_file(one, shared=True)
    platforms.lock_file(two, shared=True)
    with pytest.raises(BlockingIOError):
        platforms.lock_file(one)


def test_peak_memory_is_in_bytes_on_every_system(monkeypatch):
    used = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    assert platforms.peak_bytes() >= used * 1024
    monkeypatch.setattr(sys, "platform", "darwin")
    assert used <= platforms.peak_bytes() < 512 * used
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 2**20 < platforms.peak_bytes() < used * 2048


def test_cores_without_affinity_are_those_of_the_machine(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert platforms.usable_cores() == os.cpu_count()


def test_locks_that_a_system_lacks_are_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(UserError, match="wsl --install"), (tmp_path / "x").open("w") as file:
        platforms.lock_file(file.fileno())
