"""The steps of a launch: start workers, run a list of commands on them, and print a table of their outcomes."""

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from linearized.base.errors import UserError
from linearized.launch import LAUNCHERS
from linearized.launch.grid import Command
from linearized.launch.launch_settings import WhereSettings

if TYPE_CHECKING:
    from linearized.launch.commands import CommandResult


def run_all(settings: WhereSettings, commands: Sequence[Command]) -> "list[CommandResult]":
    """Start workers, run all commands on them, print a table of their outcomes and return these outcomes in order.

    A failure stops no other command; KeyboardInterrupt stops all of them.

    Args:
        settings: Where the commands run, and how often they are tried.
        commands: Commands as lists of words.
    """
    from linearized.base.terminal import say  # imports rich, which plans and --help do not need
    from linearized.launch.commands import run_commands
    from linearized.launch.launchers.devices import forks
    from linearized.launch.table import print_table
    from linearized.launch.task import log_path

    if settings.reads("workers"):
        settings = dataclasses.replace(settings, workers=min(settings.workers, len(commands)))
    launcher = LAUNCHERS.load(settings.launcher)
    start = time.monotonic()
    with launcher.client(settings) as client:
        logs = log_path(commands[0], settings.logs).parent
        say(f"{len(commands)} commands, logs in {logs}, dashboard: {client.dashboard_link}")
        sys.stdout.flush()
        cores = settings.cores or launcher.default_cores(settings)
        results = run_commands(
            client, commands, logs=settings.logs, retries=settings.retries, cores=cores,
            warm=settings.reads("cold") and forks(settings),
        )  # fmt: skip
    print_table(results, time.monotonic() - start)
    return results


def refuse_failures(results: "Sequence[CommandResult]") -> None:
    """Raise `UserError` if any command failed; the message names the first one and its log.

    Args:
        results: Outcome of each command.
    """
    failed = [result for result in results if result.failed]
    if failed:
        first = failed[0]
        said = (first.outcome.tail.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"{len(failed)} of {len(results)} commands failed; the first is {shlex.join(first.argv)}: {said[:300]} "
            f"(log: {first.log}). Mend the cause and run the same again: what is done is skipped."
        )
