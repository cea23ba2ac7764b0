"""Commands of the suite as children of a command, such as `python -m kernel_gen` for a missing Gram matrix.

They are new processes, or forks of the command's spare: a process that the fork server leaves beside a command whose
earlier runs had children (`linearized.launch.warm_server`). Both end with the command.
"""

import dataclasses
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from linearized.base.fork_requests import ForkServer, Unfit


@dataclasses.dataclass
class Children:
    """What this process knows of its children of the suite.

    Attributes:
        spare: Connection to the spare of this process; None in a process that has none.
        asked: Whether the process has started such a child.
        frameworks: Frameworks that forked children had imported.
        peak: Largest peak memory of forked children, in bytes; that of other children is in `RUSAGE_CHILDREN`.
    """

    spare: ForkServer | None = None
    asked: bool = False
    frameworks: set[str] = dataclasses.field(default_factory=set)
    peak: int = 0


CHILDREN = Children()


class ForkedChild:
    """A child that the spare forks, with the part of `subprocess.Popen` that is used.

    Attributes:
        stdout: Pipe with both outputs of the child.
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
        """Wait for the end, and return the exit code; 128 + signal for a child that a signal ended."""
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
        """End the child if it runs."""
        if self._code is None:
            self._spare.stop()
            CHILDREN.spare = None


def start_suite_command(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen | ForkedChild:
    """Start a Python command of the suite, whose outputs both go to the pipe `stdout`.

    Args:
        words: The interpreter, `-m`, a module of the suite, and arguments.
        environment: Environment of the child.
    """
    CHILDREN.asked = True
    if CHILDREN.spare is not None:
        return ForkedChild(CHILDREN.spare, words[1:], environment)
    from linearized.base.child_processes import end_with_parent  # imports the pools of processes

    return subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=end_with_parent()
    )
