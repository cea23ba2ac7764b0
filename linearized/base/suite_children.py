"""Functions by which one command of the suite starts another, such as `python -m kernel_gen` for a missing Gram matrix.

A child is a new process, or a fork of the command's spare. The spare is an idle process beside the command, which can
fork children quickly. A command has a spare if the fork server (`linearized.launch.warm_server`) runs it and a command
of the same kind started children before. All children end with the command.
"""

import dataclasses
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from linearized.base.fork_requests import ForkServer, Unfit


@dataclasses.dataclass
class Children:
    """Record of the child commands that this process has started.

    Attributes:
        spare: Connection to the spare, the process that forks children for this one; None if there is none.
        asked: Whether this process has started a command of the suite.
        frameworks: Frameworks that forked children had imported.
        peak: Largest peak memory of forked children, in bytes. For other children, the system reports it
            (`RUSAGE_CHILDREN`).
    """

    spare: ForkServer | None = None
    asked: bool = False
    frameworks: set[str] = dataclasses.field(default_factory=set)
    peak: int = 0


CHILDREN = Children()


class ForkedChild:
    """A command that a forked process runs, with the methods of `subprocess.Popen` that the suite uses.

    Attributes:
        stdout: Pipe from which the caller reads the child's standard output and standard error.
    """

    def __init__(self, spare: ForkServer, words: Sequence[str], environment: Mapping[str, str]):
        reading, writing = os.pipe()
        self.stdout = open(reading, "rb")  # noqa: SIM115, PTH123 - the caller closes it, as that of a Popen
        self._spare, self._code = spare, None
        try:
            spare.start(words, os.getcwd(), writing, environment=environment)  # noqa: PTH109 - a text
        finally:
            os.close(writing)

    def wait(self) -> int:
        """Wait for the end of the child, and return its exit code; 128 + signal for a child that a signal ended.

        The child's frameworks and peak memory are added to `CHILDREN`.
        """
        if self._code is None:
            try:
                ended = self._spare.wait()
            except Unfit:  # it was killed
                CHILDREN.spare, self._code = None, 128 + signal.SIGKILL
                return self._code
            self._code = ended.code
            CHILDREN.frameworks |= set(ended.frameworks)
            CHILDREN.peak = max(CHILDREN.peak, ended.peak)
        return self._code

    def terminate(self) -> None:
        """End the child if it is still running.

        This ends the spare as well; later children are new processes.
        """
        if self._code is None:
            self._spare.stop()
            CHILDREN.spare = None


def start_suite_command(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen | ForkedChild:
    """Start a Python command of the suite as a child process.

    The child's standard output and standard error go to one pipe, the attribute `stdout` of the result.

    Args:
        words: The interpreter, `-m`, a module of the suite, and arguments.
        environment: Environment of the child.

    Returns: The child; the caller has to read its `stdout` and then call its `wait`.
    """
    CHILDREN.asked = True
    if CHILDREN.spare is not None:
        return ForkedChild(CHILDREN.spare, words[1:], environment)
    from linearized.base.child_processes import end_with_parent  # imports the pools of processes

    return subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=end_with_parent()
    )
