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
def progress_line(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Gives `report(done, note="", total=None)`; `total` steps of `what` are expected, fewer are fine.

    A `total` given to `report` takes the place of the first.
    """
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
        yield lambda done, note="", total=None: bar.update(task, completed=done, note=note, total=total)


def _logger(what: str, expected: int) -> Callable[..., None]:
    start = last = time.monotonic()
    first: int | None = None

    def report(done: int, note: str = "", total: int | None = None) -> None:
        nonlocal last, first
        total = expected if total is None else total
        first = done - 1 if first is None else first  # a resumed run does not start at 0
        now = time.monotonic()
        if now - last >= LOG_EVERY:
            last = now
            left = (now - start) / max(done - first, 1) * (total - done)
            logging.info("%s: %d of at most %d, %s, at most %.0f s left", what, done, total, note, left)

    return report
