"""Commands run in forks of one process that has TensorFlow, Keras and JAX imported: seconds less for each.

    from .warm_commands import run

    done = run(["train.py", "--num_units=8"], cwd=folder)  # what subprocess.run([sys.executable, ...]) returns

The words are those after `python`: a script, or -m and a module. The server imports frameworks alone, no module of the
suite, and starts no thread of theirs, so that a fork finds what a new process finds after its imports. It ends with the
tests. Commands that must see a cold start, such as those that measure imports, start a process of their own.
"""

import atexit
import contextlib
import functools
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

PRELOADED = (
    "numpy",
    "scipy.linalg",
    "scipy.stats",
    "h5py",
    "pandas",
    "matplotlib.pyplot",
    "tensorflow",
    "keras",
    "jax",
)


def run(words, *, cwd, timeout=300, kill_when=None):
    """Return code and outputs of a command, as `subprocess.run` does. Raise TimeoutExpired after `timeout` seconds.

    If `kill_when` is given, it is called every 10 ms, and the command is ended by SIGKILL as soon as it returns true.
    """
    words = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        request = {"words": words, "cwd": str(cwd), "env": dict(os.environ), "out": str(out), "err": str(err)}
        code = _server().ask(request, timeout, kill_when)
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
    if code is None:
        raise subprocess.TimeoutExpired(words, timeout, *texts)
    return subprocess.CompletedProcess(words, code, *texts)


@functools.cache
def _server():
    return _Server()


class _Server:
    """The process that forks, and the pipe to it; one per process of tests."""

    def __init__(self):
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, bufsize=0)
        atexit.register(self._process.kill)

    def ask(self, request, timeout, kill_when):
        """Return the exit code of a command, negative for a signal; None if it was ended for its time."""
        line = json.dumps({**request, "timeout": timeout}) + "\n"
        answers = self._process.stdout
        self._process.stdin.write(line.encode())
        child = json.loads(answers.readline())
        while kill_when is not None and not select.select([answers], [], [], 0.01)[0]:
            try:
                wanted = kill_when()
            except BaseException:
                os.kill(child, signal.SIGKILL)
                answers.readline()  # else the next command would read the exit code of this one
                raise
            if wanted:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(child, signal.SIGKILL)
                break
        return json.loads(answers.readline())


def serve():
    """Fork for each line of standard input; print the number of the process, and when it has ended its exit code."""
    for name in PRELOADED:
        __import__(name)
    answers = os.dup(1)
    for line in sys.stdin:
        request = json.loads(line)
        ended, ending = os.pipe()  # read end: closed by the child's death alone
        if (child := os.fork()) == 0:
            os.close(ended)
            _command(request)
        os.close(ending)
        os.write(answers, f"{child}\n".encode())
        in_time = select.select([ended], [], [], request["timeout"])[0]
        os.close(ended)
        if not in_time:
            os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(answers, (json.dumps(code if in_time else None) + "\n").encode())


def _command(request):
    """Become the command: its folder, environment, outputs and words. Never returns."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    for place, target in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        handle = os.open(target, os.O_RDONLY if place == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, place)
        os.close(handle)
    module, sys.argv = request["words"][0] == "-m", request["words"]
    code = 0
    try:
        if module:
            sys.argv = sys.argv[1:]
            sys.path[0] = request["cwd"]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(request["cwd"], sys.argv[0]).resolve().parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - the interpreter's own last handler
        sys.excepthook(*sys.exc_info())
        code = 1
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
