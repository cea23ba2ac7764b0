"""What only some installations have: packages of an extra, and the address of a Dask scheduler that runs elsewhere."""

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
TIMEOUT = 20  # seconds until a scheduler must answer
ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def require(module: str, extra: str, needed_by: str) -> ModuleType:
    """Import and return a module of an extra.

    Args:
        module: Such as "distributed".
        extra: The extra of this package that brings it.
        needed_by: The flag or command that asks for it, as the error names it.

    Raises `UserError` that names the extra if the module, or one that it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{needed_by} needs the extra [{extra}] ({error}). {how_to_install(extra)}") from error


def how_to_install(extra: str) -> str:
    """Return the sentence that says how an extra of this package is installed."""
    return (
        f'Install it: pip install "linearized[{extra}]"; in the repository: pip install -c constraints.txt -e '
        f'".[{extra}]"'
    )


def warn_of_unused_gpu(framework: str, devices: Iterable[str]) -> None:
    """Log one warning where this machine has an NVIDIA GPU and a framework does not see it.

    Args:
        framework: Such as "tensorflow".
        devices: Names of the devices that it sees.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    if hidden or any("gpu" in device.lower() for device in devices) or not devices_of(NVIDIA):
        return
    remedy = how_to_install("cuda") if framework == "tensorflow" else 'Install it: pip install "jax[cuda12]"'
    logging.warning(
        "this machine has a GPU that %s does not see: its CUDA libraries are missing. %s", framework, remedy
    )


def checked_address(address: str) -> str:
    """Return the address of a Dask scheduler. Raises `UserError` for another form than tcp:// or tls:// host:port."""
    match = ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) < 2**16:
        raise UserError(
            f"--scheduler takes an address such as tcp://127.0.0.1:8786 or tls://host:8786. Received: {address[:60]!r}."
        )
    return address


def refuse_unreachable(address: str) -> None:
    """Raise `UserError` unless a program listens at a scheduler's address and this process could speak to it.

    Takes one connection and no data, so that a wrong address is refused before hours of work. For tls:// the
    credentials of Dask's configuration (distributed.comm.tls) must be there.
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
