"""Client of a fork server, which starts commands quickly by forking a process that has already imported frameworks.

`linearized.launch.warm_server` is the server. Client and server exchange messages, each of which is one packet of JSON.
A request to run a command is sent together with the descriptor of the open file that receives the command's output. The
keys of a request are:

- `words`: the words of the command line after the interpreter;
- `folder`: the working folder of the command;
- `environment`: the environment of the command; null for the environment that the server was started with;
- `spare`: whether to fork a spare too, a further process that forks the child commands of this command (see
  `linearized.base.suite_children`).

A reply has one of these keys:

- `unfit`: the reason why the server cannot fork; the server then answers no request;
- `started`: the process number of the command;
- `code`: the exit code of the command as a shell reports it, together with `frameworks`, `children` and `peak` (see
  `Ended`).

Closing the sending side of the connection interrupts the running command, and ends the server.
"""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MOST_BYTES = 2**20  # largest size of a message; a longer one is refused by the socket
KILLED = 128 + signal.SIGKILL


class Ended(NamedTuple):
    """The outcome of a command that has ended.

    Attributes:
        code: Exit code; 128 + signal for a command that a signal ended.
        frameworks: Names of the frameworks that the command or its children had imported when they ended.
        children: Whether the command started other commands of the suite.
        peak: Peak resident memory, in bytes, of the command or of one of its ended children, whichever is largest.
    """

    code: int
    frameworks: tuple[str, ...] = ()
    children: bool = False
    peak: int = 0


class Unfit(Exception):
    """An error for a command that was not started, because the server cannot fork safely or has ended."""


def send(connection: socket.socket, message: Mapping[str, Any], handles: Sequence[int] = ()) -> None:
    """Send one message with descriptors of open files over the socket to the other side.

    Args:
        connection: Socket of type SOCK_SEQPACKET.
        message: Content, which is converted to JSON.
        handles: Descriptors of open files that are sent with the message.

    Raises OSError if the other side is gone or the message is too long.
    """
    socket.send_fds(connection, [json.dumps(message).encode()], handles)


def receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Wait for the next message on a socket, and return it and the descriptors sent with it.

    The message is None if the other side has closed the connection.
    """
    with contextlib.suppress(ConnectionResetError):
        content, handles, _, _ = socket.recv_fds(connection, MOST_BYTES, 4)
        for handle in handles:
            os.set_inheritable(handle, False)
        if content:
            return json.loads(content), handles
    return None, []


class ForkServer:
    """A connection to a fork server, which runs one command at a time.

    Args:
        connection: Socket of type SOCK_SEQPACKET whose other end the server has.

    Attributes:
        usable: Whether the server can run another command.
    """

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self.usable = True

    def start(
        self, words: Sequence[str], folder: str, output: int, *,
        environment: Mapping[str, str] | None = None, spare: bool = False,
    ) -> None:  # fmt: skip
        """Send the server a request to run a command; do not wait until the command has started.

        Args:
            words: Words of the command line after the interpreter: `-m` and a module, or a script, then arguments.
            folder: Working folder.
            output: Descriptor that becomes the command's standard output and standard error.
            environment: Environment of the command; None for that of the server.
            spare: Whether to fork a spare too, a further process that forks the child commands of this command.

        Raises OSError if the server is gone.
        """
        own = None if environment is None else dict(environment)
        request = {"words": list(words), "folder": folder, "environment": own, "spare": spare}
        send(self._connection, request, [output])

    def wait(self) -> Ended:
        """Wait for the end of the command, and return its outcome.

        If the server dies, the command is killed, with all processes of its group. Raises `Unfit` if the command did
        not start.
        """
        message, _ = receive(self._connection)
        if message is None or "unfit" in message:
            self.usable = False
            raise Unfit(message["unfit"] if message else "the server ended")
        group = message["started"]
        message, _ = receive(self._connection)
        if message is None:
            self.usable = False
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            return Ended(KILLED)
        return Ended(message["code"], tuple(message["frameworks"]), message["children"], message["peak"])

    def stop(self) -> None:
        """Interrupt the running command and end the server; `wait` still returns the end of the command."""
        self.usable = False
        with contextlib.suppress(OSError):  # the server is gone
            self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection, which ends the server."""
        self._connection.close()
