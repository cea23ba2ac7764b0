"""How far: a live line on a terminal, a log line every half minute elsewhere; done, running, failed, time left."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from absl import logging
from rich.console import Console

LOG_EVERY = 30.0  # seconds


class Report(NamedTuple):
    """Numbers of commands and of workers at one moment."""

    done: int
    failed: int
    running: int
    workers: int


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def line(report: Report, total: int, seconds: float) -> str:
    """One line; the time left supposes that what is to come takes as long as what came."""
    ended = report.done + report.failed
    left = f", {clock(seconds / ended * (total - ended))} left" if ended else ""
    failed = f", {report.failed} failed" if report.failed else ""
    waiting = "" if report.workers else ", waiting for workers"
    return (
        f"{report.done} of {total} done, {report.running} running on {report.workers} workers{failed}{waiting}, "
        f"{clock(seconds)}{left}"
    )


@contextlib.contextmanager
def progress_line(total: int) -> Iterator[Callable[[Report], None]]:
    """Gives `show(report)`, to be called every second or so while `total` commands run."""
    console, start, last = Console(file=sys.stderr), time.monotonic(), time.monotonic()
    if console.is_terminal:
        with console.status("starting") as status:
            yield lambda report: status.update(line(report, total, time.monotonic() - start))
        return

    def show(report: Report) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY:
            last = time.monotonic()
            logging.info("%s", line(report, total, last - start))

    yield show
