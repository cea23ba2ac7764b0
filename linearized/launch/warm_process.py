"""Commands that run as forks of fork servers. A fork server is a process that has imported the modules of commands.

Forks save most of the time that a command needs to start. A worker keeps its servers between commands, and uses a
server again for commands with the same interpreter, environment, working folder and modules. A server also imports the
frameworks (JAX, Keras, Numba) that an earlier command imported, if the flags of the two commands differ only in
numbers. It does not import Keras for training commands that choose the backend of Keras by such numbers.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from linearized.base.fork_requests import Ended, ForkServer, Unfit
from linearized.launch.suite_commands import SuiteCommand

SERVER = Path(__file__).with_name("warm_server.py")
MOST_IDLE = 4  # kinds of servers of one environment that wait for commands; the kind that was used first is ended


class _Kind(NamedTuple):
    """Properties that are the same for all commands of one fork server, such as the working folder."""

    python: str
    path: str
    folder: str
    environment: tuple[tuple[str, str], ...]
    modules: tuple[str, ...]


class _Server(ForkServer):
    """A fork server of this worker, with the connection to it."""

    def __init__(self, kind: _Kind):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A session of its own: Ctrl-C on a terminal reaches only the launching process.
            self.process = subprocess.Popen(
                [kind.python, SERVER, kind.path, str(theirs.fileno()), *kind.modules],
                env=dict(kind.environment), cwd=kind.folder, pass_fds=[theirs.fileno()], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        super().__init__(ours)

    def end(self) -> None:
        """End the server process, which must not be running a command."""
        self.close()
        self.process.kill()
        self.process.wait()


_idle: dict[_Kind, list[_Server]] = {}  # the kind that was used first comes first
_unfit: set[_Kind] = set()  # kinds whose servers cannot fork or cannot import
_learned: dict[tuple[str, ...], Ended] = {}  # end of the last run, by form of the command
_lock = threading.Lock()


def possible() -> bool:
    """Return whether this system can have fork servers: only Linux. On macOS, forks after imports are unsafe."""
    return sys.platform.startswith("linux")


class WarmProcess:
    """A command that runs in a fork of a fork server.

    Args:
        command: The command.
        folder: Working folder.
        environment: Environment.
        output: Descriptor of its standard output and standard error.

    Raises:
        Unfit: If the server that the command needs cannot fork or cannot be started.
    """

    def __init__(self, command: SuiteCommand, folder: str, environment: Mapping[str, str], output: int):
        self._command, self._stopped = command, False
        before = _learned.get(command.shape, Ended(0))
        self._kind = _Kind(command.python, command.path, folder, tuple(sorted(environment.items())),
                           command.modules(before.frameworks))  # fmt: skip
        with _lock:
            if self._kind in _unfit:
                raise Unfit
            servers = _idle.get(self._kind, [])
            self._server = servers.pop() if servers else None
        for _ in range(2):  # an idle server may have been killed
            self._fresh = self._server is None
            self._server = self._server or _Server(self._kind)
            try:
                self._server.start(command.words, folder, output, spare=before.children)
                return
            except OSError:
                self._server.end()
                self._server = None
        raise Unfit

    def wait(self) -> int:
        """Wait for the end of the command and return its exit code, 128 + signal for a signal.

        Raises:
            Unfit: If the command was not started.
        """
        try:
            ended = self._server.wait()
        except Unfit:
            if self._fresh and not self._stopped:
                with _lock:
                    _unfit.add(self._kind)
            raise
        if ended.peak:  # the command came to its own end
            with _lock:
                _learned[self._command.shape] = ended
        return ended.code

    def stop(self) -> None:
        """Interrupt the command, and kill it if it does not end by itself."""
        self._stopped = True
        self._server.stop()

    def release(self) -> None:
        """Keep the fork server for the next command, or end it if it cannot run another one.

        This is called after the end of the command.
        """
        with _lock:
            kept = self._server.usable
            if kept:
                _idle.setdefault(self._kind, []).append(self._server)
            alike = [kind for kind in _idle if kind.environment == self._kind.environment]  # not of other GPUs
            dropped = _idle.pop(alike[0]) if len(alike) > MOST_IDLE else []
        for server in dropped if kept else [*dropped, self._server]:
            server.end()


def end_servers() -> None:
    """End the fork servers of this worker that are idle."""
    with _lock:
        servers = [server for servers in _idle.values() for server in servers]
        _idle.clear()
    for server in servers:
        server.end()
