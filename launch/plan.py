"""Which commands to run: the one after `--`, those that it lists, or those of a file."""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence

from data.errors import UserError
from data.reading import expanded, read_lines
from launch.grid import Command, combinations
from launch.task import Task, environment_of


def plan(words: Command, expand: bool, source: str | None, grid: Sequence[str] = ()) -> list[Command]:
    """The commands to run, each once, in order.

    Args:
        words: The command line after `--`; may be empty.
        expand: `words` with `--list` added prints the commands still to do, one a line.
        source: A file of commands, one a line; "-" is standard input.
        grid: Axes of flags; `words` stands for one command a combination (see launch.grid).

    Raises `UserError` if not exactly one of the sources is given, or it cannot be read.
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
    """A command a line, in words as a shell splits them; blank lines and `# comments` are left out."""
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
        return parse_lines(sys.stdin, "standard input")
    lines = read_lines(expanded(source, "--commands"), "Give a file of commands, or - for standard input.")
    return parse_lines(lines, source)


def _listed(words: Command) -> list[Command]:
    """The lines that the command prints with --list; what it says on stderr is shown."""
    command = (*words, "--list")
    environment = environment_of(Task(command, "", ""))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    except OSError as error:
        raise UserError(f"Cannot run {words[0]}: {error.strerror}.") from error
    if done.returncode:
        raise UserError(f"{shlex.join(command)} ended with code {done.returncode}: nothing is planned.")
    return parse_lines(done.stdout.splitlines(), shlex.join(command))
