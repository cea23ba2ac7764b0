"""The origin of a result: command line, version and commit of the package, machine, and random-number seeds.

`linearized.storage.results.save` adds the versions of Python and of the packages.
"""

import dataclasses
import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import linearized
from linearized.base.machine_memory import total_bytes
from linearized.base.platforms import processor, usable_cores
from linearized.settings.config import CODE, Settings

ROOT = Path(linearized.__file__).resolve().parent.parent  # the repository, if the package is run from one
PATIENCE = 10.0  # seconds after which git is stopped


def made_by(settings: Settings, program: str) -> dict[str, Any]:
    """Return the entries of a record that state how its result can be reproduced.

    Args:
        settings: Settings of this one run; the command line has all that differ from their defaults.
        program: The words before the flags, such as "linearized train".

    Returns:
        The entry `command` is a line for a shell. The entry `made_by` has `version`, `machine`, `seeds` (the settings
        whose names end in "seed"), `commit` if the package is in a git repository of its own, and `code`, digests of
        the user's own functions and model files by flag, if there are any.
    """
    seeds = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)
             if field.name.endswith("seed")}  # fmt: skip
    made: dict[str, Any] = {"version": version(), "machine": machine(), "seeds": seeds}
    if (found := commit(ROOT)) is not None:
        made["commit"] = found
    if code := settings.code():
        made[CODE] = code
    return {"command": settings.command_line(program), "made_by": made}


def version() -> str:
    """Return the installed version of the package; "unknown" if it is not installed."""
    import importlib.metadata  # takes 5 % of the time of `--help`

    try:
        return importlib.metadata.version("linearized")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def commit(root: Path) -> str | None:
    """Return the git commit that is checked out in the folder `root`, with "-dirty" appended if files were changed.

    Only tracked files count as changed. The result is None if `root` is not the top of a git repository, or if git is
    missing or takes more than 10 seconds.
    """
    if not (root / ".git").exists():  # otherwise the repository around a virtual environment would be used
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            words, env=environment | {"GIT_OPTIONAL_LOCKS": "0"}, capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def machine() -> dict[str, Any]:
    """Return a description of this machine.

    It has `name`, `system`, `processor`, the usable `cores`, `memory_gib` and, if TensorFlow uses some, `gpus`.
    """
    found = {
        "name": platform.node(), "system": platform.platform(), "processor": processor(),
        "cores": usable_cores(), "memory_gib": round(total_bytes() / 2**30, 1),
    }  # fmt: skip
    return found | ({"gpus": gpus} if (gpus := _gpus()) else {})


def _gpus() -> str:
    """Return the names of the GPUs that TensorFlow can use; "" if TensorFlow has not been imported."""
    if (tensorflow := sys.modules.get("tensorflow")) is None:
        return ""
    devices = tensorflow.config.list_physical_devices("GPU")
    names = [tensorflow.config.experimental.get_device_details(device).get("device_name", "GPU") for device in devices]
    return ", ".join(names)
