"""Guard process: it runs one command for a worker, and ends the command with all its children if the worker ends.

A worker may be killed at any moment. Another worker then runs its command again, so the first run must not continue.
The worker holds the other end of the guard's standard input. When this end closes, for any reason, the guard interrupts
the command, and kills it if it does not end within 5 seconds. The file runs as a script and needs only the standard
library, so that it starts in about 20 ms.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE = 5.0  # seconds between the interrupt and the kill


def main(argv: list[str]) -> int:
    """Run a command in its own process group, end it when standard input closes, and return its exit code.

    As in a shell, the code is 128 + signal for a command that a signal ended, and 127 for one that cannot be started.

    Args:
        argv: Words of the command.
    """
    stop = threading.Event()
    # Ctrl-C on a terminal reaches this process too, but only the worker may end the command. Handlers are set because
    # a command would inherit an ignored signal.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        command = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr)
        return 127
    threading.Thread(target=_watch_input, args=(stop,), daemon=True).start()
    threading.Thread(target=_end, args=(command, stop), daemon=True).start()
    code = command.wait()
    _signal_group(command, signal.SIGKILL)  # child processes that it left running
    return code if code >= 0 else 128 - code


def _watch_input(stop: threading.Event) -> None:
    os.read(0, 1)  # nothing is ever written: this returns when the other end closes
    stop.set()


def _end(command: subprocess.Popen, stop: threading.Event) -> None:
    stop.wait()
    _signal_group(command, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(GRACE)
    _signal_group(command, signal.SIGKILL)


def _signal_group(command: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(command.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
