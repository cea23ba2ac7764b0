"""Table at the end of a launch: one row per failed command (or per command, if they are few), and totals."""

import shlex
import signal
from collections.abc import Sequence

from rich.console import Console

from linearized.base.terminal import Column, print_columns, say
from linearized.launch.commands import CommandResult
from linearized.launch.sweep_progress import clock

FEW = 20


def print_table(results: Sequence[CommandResult], seconds: float, console: Console | None = None) -> None:
    """Print how each command ended, its tries, seconds and log, then the number that succeeded and the total time."""
    console = console or Console()
    failed = [result for result in results if result.failed]
    rows = results if len(results) <= FEW else failed[:FEW]
    if rows:
        print_columns(
            "",
            [
                Column("command", [shlex.join(result.argv) for result in rows], text=True),
                Column("ended", [verdict(result.outcome.code) for result in rows]),
                Column("tries", [str(result.tries) for result in rows], 2),
                Column("seconds", [f"{result.outcome.seconds:.1f}" for result in rows], 3),
                Column("log", [result.log for result in rows], 1, text=True),
            ],
            styles=["bold red" if result.failed else "" for result in rows],
            console=console,
        )
    if len(failed) > len(rows):
        say(f"and {len(failed) - len(rows)} more that failed", console)
    done = [result.outcome.seconds for result in results if not result.failed]
    mean = f", {sum(done) / len(done):.1f} s each" if done else ""
    say(f"{len(done)} of {len(results)} done in {clock(seconds)}{mean}", console)


def verdict(code: int | None) -> str:
    """Return a description of an exit code in words."""
    if code is None:
        return "worker died"
    if code > 128 and code - 128 in set(signal.Signals):
        return signal.Signals(code - 128).name
    return "done" if code == 0 else f"code {code}"
