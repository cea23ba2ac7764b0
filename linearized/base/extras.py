"""Checks for optional components: packages that extras install, CUDA libraries, and a running Dask scheduler."""

import importlib
import os
import re
import socket
from collections.abc import Iterable
from types import ModuleType

from absl import logging

from linearized.base.accelerators import NVIDIA, devices_of
from linearized.base.errors import UserError

SCHEDULER_HELP = "address of a Dask scheduler that runs already, such as tcp://127.0.0.1:8786 or tls://host:8786"
MOST_WORKERS = 10_000
TIMEOUT = 20  # seconds within which a scheduler must answer
ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def require(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import and return a module that only an optional extra of this package installs.

    Args:
        module: Name of the module, such as "distributed".
        extra: Name of the extra, as in `pip install linearized[NAME]`.
        needed_by: Flag or command that needs the module, for the error message.

    Raises `UserError`, whose message names the extra, if the module or one that it imports is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{needed_by} needs the extra [{extra}] ({error}). {how_to_install(extra)}") from error


def how_to_install(extra: str) -> str:
    """Return the sentence of error messages that explains how to install an extra of this package."""
    return (
        f'Install it: pip install "linearized[{extra}]"; in the repository: pip install -c constraints.txt -e '
        f'".[{extra}]"'
    )


def warn_of_unused_gpu(framework: str, devices: Iterable[str]) -> None:
    """Log a warning if this machine has an NVIDIA GPU that a framework does not use.

    Args:
        framework: Name of the framework, such as "tensorflow".
        devices: Names of the devices that the framework found.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    if hidden or any("gpu" in device.lower() for device in devices) or not devices_of(NVIDIA):
        return
    remedy = how_to_install("cuda") if framework == "tensorflow" else 'Install it: pip install "jax[cuda12]"'
    logging.warning(
        "this machine has a GPU that %s does not see: its CUDA libraries are missing. %s", framework, remedy
    )


def checked_address(address: str) -> str:
    """Return the address of a Dask scheduler unchanged if it has the form tcp://host:port or tls://host:port.

    Raises `UserError` for any other text.
    """
    match = ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) < 2**16:
        raise UserError(
            f"--scheduler takes an address such as tcp://127.0.0.1:8786 or tls://host:8786. Received: {address[:60]!r}."
        )
    return address


def refuse_unreachable(address: str) -> None:
    """Raise `UserError` unless a program accepts connections at a scheduler's address.

    Opens one connection and sends no data. A wrong address is thus refused before hours of work. For tls://, Dask's
    configuration must contain credentials (distributed.comm.tls).
    """
    protocol, host, port = ADDRESS.fullmatch(checked_address(address)).groups()
    security = require("distributed.security", "cluster", f"--scheduler={address}")
    if protocol == "tls" and security.Security().get_connection_args("client").get("ssl_context") is None:
        raise UserError(
            f"{address} needs TLS credentials: set distributed.comm.tls.ca-file and distributed.comm.tls.client in "
            "Dask's configuration, or give a tcp:// address."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT).close()
    except OSError as error:
        raise UserError(f"No Dask scheduler answers at {address}: {error}. Start one, or take none.") from error
