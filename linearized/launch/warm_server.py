"""Fork server: a process that has imported the modules of a command once, and forks one child per command.

A fork copies only the thread that calls it: a lock that another thread holds at that moment stays locked in the child
for ever, and thread pools, CUDA contexts and XLA clients do not work there. Therefore the server only imports modules.
It multiplies no matrices, uses no devices and starts no threads. Imports leave two kinds of threads, both of libraries
that are prepared for a fork (`pthread_atfork`): OpenBLAS ends its threads before a fork and starts them again at the
next product, and jemalloc (in pyarrow) takes its locks and restarts its thread. TensorFlow, JAX and Numba start their
threads, and CUDA its contexts, at their first operation, which happens in the child. The server checks this before it
serves: it forks once on trial, then counts its threads and looks for open files of GPU devices. If it finds any other
thread or a device, it refuses to serve, and its commands run in new processes.

The server is started with the environment and the working folder of its commands, because libraries read variables such
as OMP_NUM_THREADS when they are loaded. A child has what a new process has: environment, working folder, `sys.argv`,
`__main__`, a session of its own, default signals, and fresh entropy in NumPy's global generator (Python's own `random`
reseeds itself). A child differs from a new process in three ways: `ps` shows the command line of the server, all
children share the seed of `hash` unless PYTHONHASHSEED is set, and what libraries print while they are imported is
lost.

The file runs as a script. Its arguments are the folder that its commands have in sys.path[0], the descriptor of the
connection (see `linearized.base.fork_requests`), and modules to import (`module`, or `module:function`, which is
called without arguments).
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path[0] = sys.argv[1]  # before all other imports, which must find what those of the commands find

import builtins
import contextlib
import gc
import importlib.machinery
import json
import os
import runpy
import select
import signal
import socket
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linearized.base.child_processes import end_with_parent
from linearized.base.fork_requests import ForkServer, receive, send
from linearized.base.platforms import peak_bytes
from linearized.base.suite_children import CHILDREN
from linearized.launch.guard import GRACE
from linearized.launch.suite_commands import FRAMEWORKS

SAFE_THREADS = ("jemalloc_bg_thd",)  # native threads of libraries that prepare themselves for a fork
GPU_FILES = "/dev/nvidia"


class Command:
    """A command in the forked child process that runs it.

    Creating the object sets the environment, the working folder and the output of this process.

    Args:
        request: Request of the client, with "words" (of the command, after the interpreter) and "folder".
        output: Descriptor of its standard output and standard error.
        report: Descriptor of a pipe to the server; at its end the command writes the frameworks it imported and its
            peak memory there.
        environment: Environment of the command.
    """

    def __init__(self, request: Mapping[str, Any], output: int, report: int, environment: Mapping[str, str]):
        self._words, self._report = request["words"], report
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        for handle in (1, 2):
            os.dup2(output, handle)
        os.close(output)
        os.chdir(request["folder"])
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()

    def run(self) -> int:
        """Run the command in this process and return its exit code.

        Raises:
            SystemExit: If the command raises it; the interpreter then ends with its code.
        """
        try:
            self._run()
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - in the place of the interpreter, which prints it and ends
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
                trace = trace.tb_next
            sys.excepthook(type(error), error.with_traceback(trace), trace)
            return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        finally:
            found = {name for name in FRAMEWORKS if name in sys.modules} | CHILDREN.frameworks
            report = {"frameworks": sorted(found), "children": CHILDREN.asked, "peak": peak_bytes()}
            os.write(self._report, json.dumps(report).encode())
            os.close(self._report)
        return 0

    def _run(self) -> None:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        sys.orig_argv[1:] = self._words
        if self._words[0] == "-m":
            sys.argv = self._words[1:]
            if not sys.flags.safe_path:
                sys.path[0] = str(Path.cwd())
            runpy._run_module_as_main(self._words[1])  # the interpreter's own function for -m
        else:
            sys.argv = list(self._words)
            path = Path(self._words[0]).absolute()
            main.__dict__.update(
                __annotations__={}, __builtins__=builtins, __cached__=None, __file__=str(path),
                __loader__=importlib.machinery.SourceFileLoader("__main__", str(path)),
            )  # fmt: skip
            exec(compile(path.read_bytes(), str(path), "exec"), main.__dict__)


class Server:
    """A fork server: a loop that forks one child for each command that its client requests.

    Args:
        connection: Connection to the client.
        environment: Environment of commands for which the client sends none.
        spare: Whether this server was forked beside a running command. It then forks the commands that the running
            command starts, in the session of the running command.
    """

    def __init__(self, connection: socket.socket, environment: Mapping[str, str], *, spare: bool = False):
        self._connection, self._environment, self._spare = connection, environment, spare
        self._wake, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._waking)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def serve(self) -> Command | None:
        """Fork a child for every request of the client, one after the other, until the connection ends.

        Returns:
            In the server, None at the end; in each child, the command that the child has to run.
        """
        stopped = False
        while not stopped:
            request, handles = receive(self._connection)
            if request is None or select.select([self._connection], [], [], 0)[0]:
                break  # the client is gone, before its request was read or since then
            reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            server, child = os.getpid(), os.fork()
            if child == 0:
                os.close(reading)
                return self._command(request, handles[0], writing, server)
            for handle in (*handles, writing):
                os.close(handle)
            send(self._connection, {"started": child})
            code, stopped = self._ended(child)
            with open(reading, "rb", buffering=0) as report:  # noqa: PTH123 - a descriptor
                told = json.loads(report.read(2**16) or b"{}")  # nothing from a command that a signal ended
            ended = {"frameworks": [], "children": False, "peak": 0, **told, "code": code}
            with contextlib.suppress(BrokenPipeError):  # the client was killed
                send(self._connection, ended)
        return None

    def _command(self, request: Mapping[str, Any], output: int, report: int, server: int) -> Command:
        """Prepare a new child process for its command, and return the command.

        If the request asks for a spare, this process first forks one (see `_spared`).

        Args:
            request: Request of the client.
            output: Descriptor of the command's standard output and standard error.
            report: Descriptor of the pipe to the server.
            server: Process id of the server.
        """
        signal.set_wakeup_fd(-1)
        for handle in (self._wake, self._waking):
            os.close(handle)
        self._connection.close()
        if not self._spare:
            os.setsid()
        end_with_parent(signal.SIGKILL)()
        if os.getppid() != server:  # it ended before the line above
            os._exit(128 + signal.SIGKILL)
        if request["spare"] and (nested := self._spared(output, report)) is not None:
            return nested
        for number, action in ((signal.SIGCHLD, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler),
                               (signal.SIGTERM, signal.SIG_DFL)):  # fmt: skip
            signal.signal(number, action)
        environment = request["environment"] or self._environment
        known = set(sys.path)
        paths = environment.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[1:1] = [path for path in paths if path and path not in known]
        return Command(request, output, report, environment)

    def _spared(self, *handles: int) -> Command | None:
        """Fork a "spare" of this process, which later forks child processes for the command of this process.

        Returns:
            In this process, None; in a child of the spare, the command that the child has to run.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = os.getpid()
        if os.fork():
            theirs.close()
            CHILDREN.spare = ForkServer(ours)
            return None
        ours.close()
        for handle in handles:
            os.close(handle)
        end_with_parent(signal.SIGKILL)()
        if os.getppid() != command:
            os._exit(1)
        if (nested := Server(theirs, self._environment, spare=True).serve()) is None:
            os._exit(0)
        return nested

    def _ended(self, child: int) -> tuple[int, bool]:
        """Wait for the end of a child; interrupt the child if the connection ends first.

        The child is killed if it does not end within 5 seconds (`GRACE`) after the interrupt.

        Args:
            child: Process id of the child.

        Returns:
            Exit code of the child as a shell reports it, and whether the connection has ended.
        """
        stopped, deadline, awaited = False, None, [self._wake, self._connection]
        while True:
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                break
            patience = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = select.select(awaited, [], [], patience)[0]
            if self._wake in ready:
                os.read(self._wake, 512)
            if self._connection in ready:  # the client sends nothing while a command runs: this is the end
                stopped, deadline, awaited = True, time.monotonic() + GRACE, [self._wake]
                self._signal(child, signal.SIGTERM if self._spare else signal.SIGINT)
            elif not ready and deadline is not None:
                self._signal(child, signal.SIGKILL)
                deadline = None
        if not self._spare:
            self._signal(child, signal.SIGKILL)  # processes that the command left running
        code = os.waitstatus_to_exitcode(ended[1])
        return (code if code >= 0 else 128 - code), stopped

    def _signal(self, child: int, number: int) -> None:
        """Send a signal to all processes of a command; a spare sends it to its child alone.

        Args:
            child: Process id of the child that runs the command.
            number: Number of the signal.
        """
        with contextlib.suppress(ProcessLookupError):
            (os.kill if self._spare else os.killpg)(child, number)


def unfit() -> str:
    """Return the reason why this process cannot fork safely, or "" if it can.

    It forks once on trial before it counts threads, because OpenBLAS ends its threads at a fork.
    """
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    threads = [name for name in names if name not in SAFE_THREADS]
    if len(threads) > 1:
        return f"imports have started {len(threads) - 1} threads"
    opened = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]  # noqa: PTH115 - may vanish
    return "imports have opened a GPU" if any(path.startswith(GPU_FILES) for path in opened) else ""


def main(folder: str, connection: socket.socket, modules: Sequence[str]) -> Command | None:
    """Import modules, and then serve as a fork server until the client is gone.

    Args:
        folder: Folder that commands have in sys.path[0]; it is not used here, because it is set when the file starts.
        connection: Connection to the client.
        modules: Modules to import: `module`, or `module:function`, which is called without arguments.

    Returns:
        In the server, None at the end; in each child, the command that the child has to run.
    """
    environment = dict(os.environ)
    for name in modules:
        module, _, function = name.partition(":")
        loaded = importlib.import_module(module)
        if function:
            getattr(loaded, function)()
    if reason := unfit():
        send(connection, {"unfit": reason})
        return None
    gc.collect()
    gc.freeze()  # so that garbage collections in children write to no shared page
    return Server(connection, environment).serve()


if __name__ == "__main__":
    command = main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), sys.argv[3:])
    sys.exit(command.run() if command else 0)
