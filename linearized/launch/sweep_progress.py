"""Progress of a launch of commands: a live line on a terminal, and otherwise a log line every half minute."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from linearized.base.progress import LOG_EVERY, LiveLine, Logged, Part, clock, terminal

__all__ = ["Report", "clock", "line", "progress_line"]


class Report(NamedTuple):
    """Numbers of commands and workers at one moment.

    Attributes:
        done: Commands that succeeded.
        failed: Commands that failed.
        running: Commands that are running.
        workers: Workers that are connected.
    """

    done: int
    failed: int
    running: int
    workers: int


def parts(report: Report, total: int, seconds: float) -> list[Part]:
    """Return the pieces of text of the progress line.

    On a narrow terminal, the pieces of the highest rank are left out first.

    Args:
        report: Numbers of commands and workers.
        total: Number of all commands.
        seconds: Seconds since the start. The time left assumes that each remaining command takes the mean time.
    """
    ended = report.done + report.failed
    return [
        Part(f"{report.done} of {total} done"),
        Part(f"{report.running} running on {report.workers} workers", 3),
        Part(f"{report.failed} failed" if report.failed else "", 1),
        Part("" if report.workers else "waiting for workers", 2),
        Part(clock(seconds), 4),
        Part(f"{clock(seconds / ended * (total - ended))} left" if ended else ""),
    ]


def line(report: Report, total: int, seconds: float) -> str:
    """Return the whole progress line as text, for a log.

    Args:
        report: Numbers of commands and workers.
        total: Number of all commands.
        seconds: Seconds since the start.
    """
    return ", ".join(part.text for part in parts(report, total, seconds) if part.text)


@contextlib.contextmanager
def progress_line(total: int) -> Iterator[Callable[[Report], None]]:
    """Show the progress of `total` commands within a `with` block.

    Yields:
        Function `show(report)`, which is to be called about every second with the present numbers.
    """
    console, start = terminal(), time.monotonic()
    if console is None:
        log = Logged(LOG_EVERY)
        yield lambda report: log(lambda: line(report, total, time.monotonic() - start))
        return
    now = Report(0, 0, 0, 0)
    with LiveLine(console, total, lambda live: parts(now, total, live.seconds)) as live:

        def show(report: Report) -> None:
            nonlocal now
            now = report
            live.show(report.done + report.failed)

        yield show
