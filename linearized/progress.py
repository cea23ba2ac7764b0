"""A live line on a terminal, a log line every half minute elsewhere: how far, how good, how long still."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from absl import logging
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY = 30.0  # seconds


@contextlib.contextmanager
def progress_line(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Gives `report(done, note)`; `total` steps of `what` are expected, fewer are fine."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _logger(what, total)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda done, note="": bar.update(task, completed=done, note=note)


def _logger(what: str, total: int) -> Callable[[int, str], None]:
    start = last = time.monotonic()
    first: int | None = None

    def report(done: int, note: str = "") -> None:
        nonlocal last, first
        first = done - 1 if first is None else first  # a resumed run does not start at 0
        now = time.monotonic()
        if now - last >= LOG_EVERY:
            last = now
            left = (now - start) / max(done - first, 1) * (total - done)
            logging.info("%s: %d of at most %d, %s, at most %.0f s left", what, done, total, note, left)

    return report
