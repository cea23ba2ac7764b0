"""List of the commands of a launch, from one of three sources.

The sources are the command after `--` (once, or for each combination of flags), the commands that this command prints,
and a file of commands.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence

from linearized.base.errors import UserError
from linearized.base.reading import expanded, read_lines
from linearized.launch.grid import Command, combinations
from linearized.launch.task import Task, environment_of

MOST_BYTES = 2**26  # largest size of a list of commands


def plan(words: Command, expand: bool, source: str | None, grid: Sequence[str] = ()) -> list[Command]:
    """Return the commands of a launch, in order and without repetitions.

    Args:
        words: Command line after `--`; may be empty.
        expand: Whether to run the commands that `words` prints, one per line, when `--list` is added to it.
        source: File of commands, one per line; "-" is standard input; None: there is no file.
        grid: Axes of flags; `words` stands for one command per combination (see linearized.launch.grid).

    Raises:
        UserError: Unless exactly one of `words` and `source` is given, if `expand` or `grid` is given with `source`,
            and if the commands cannot be read.
    """
    if bool(words) == (source is not None):
        raise UserError(
            "Give the commands to run either after -- or as --commands=FILE (- for standard input). "
            f"Received: {'both' if words else 'neither'}."
        )
    if source is not None:
        if expand or grid:
            raise UserError("--expand and --grid are for the command after --; they do not go with --commands.")
        found = _read(source)
    else:
        commands = combinations(tuple(words), grid)
        found = [listed for command in commands for listed in _listed(command)] if expand else commands
    return list(dict.fromkeys(found))


def parse_lines(lines: Iterable[str], where: str) -> list[Command]:
    """Return one command per line, split into words as by a shell; skip blank lines and `# comments`.

    Args:
        lines: Lines of text.
        where: Name of their source, used in error messages.

    Raises:
        UserError: For a line that a shell could not split, such as one with an open quote.
    """
    commands = []
    for number, line in enumerate(lines, start=1):
        try:
            words = tuple(shlex.split(line, comments=True))
        except ValueError as error:
            raise UserError(f"{where}, line {number}: {error}. Received: {line.strip()!r}.") from error
        if words:
            commands.append(words)
    return commands


def _read(source: str) -> list[Command]:
    if source == "-":
        return parse_lines(_decoded(sys.stdin.buffer.read(MOST_BYTES + 1), "standard input"), "standard input")
    lines = read_lines(expanded(source, "--commands"), "Give a file of commands, or - for standard input.")
    return parse_lines(lines, source)


def _listed(words: Command) -> list[Command]:
    """Run a command with `--list` appended, and return the commands that it prints; its stderr is shown.

    Args:
        words: Words of the command.

    Raises:
        UserError: If it cannot be started or fails.
    """
    command = (*words, "--list")
    environment = environment_of(Task(command, "", ""))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    except OSError as error:
        raise UserError(f"Cannot run {words[0]}: {error.strerror}.") from error
    if done.returncode:
        raise UserError(f"{shlex.join(command)} ended with code {done.returncode}: nothing is planned.")
    return parse_lines(_decoded(done.stdout, shlex.join(command)), shlex.join(command))


def _decoded(content: bytes, where: str) -> list[str]:
    """Return the lines of a text that was read as bytes.

    Args:
        content: The text.
        where: Name of its source, used in error messages.

    Raises:
        UserError: If it is not UTF-8, or longer than 64 MiB.
    """
    if len(content) > MOST_BYTES:
        raise UserError(f"{where} is longer than {MOST_BYTES >> 20} MiB: it holds no list of commands.")
    try:
        return content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{where}, line {line}: commands must be UTF-8 ({error.reason}).") from error
