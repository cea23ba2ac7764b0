"""The table at the end: a row for each command that failed (or for all, if they are few), and the sum."""

import shlex
import signal
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from launch.commands import Result
from launch.progress import clock

FEW = 20


def print_table(results: Sequence[Result], seconds: float, console: Console | None = None) -> None:
    """Prints how each command ended, tries, seconds and log; then how many did, and in what time."""
    console = console or Console()
    if not console.is_terminal:
        console.width = 160  # a file has no width, and a table that is cut is lost
    failed = [result for result in results if result.failed]
    rows = results if len(results) <= FEW else failed[:FEW]
    if rows:
        table = Table("command", "ended", "tries", "seconds")
        table.add_column("log", overflow="fold")
        for result in rows:
            table.add_row(
                shlex.join(result.argv), verdict(result.outcome.code), str(result.tries),
                f"{result.outcome.seconds:.1f}", result.log, style="bold red" if result.failed else "",
            )  # fmt: skip
        console.print(table)
    if len(failed) > len(rows):
        console.print(f"and {len(failed) - len(rows)} more that failed")
    done = [result.outcome.seconds for result in results if not result.failed]
    mean = f", {sum(done) / len(done):.1f} s each" if done else ""
    console.print(f"{len(done)} of {len(results)} done in {clock(seconds)}{mean}")


def verdict(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "worker died"
    if code > 128 and code - 128 in set(signal.Signals):
        return signal.Signals(code - 128).name
    return "done" if code == 0 else f"code {code}"
