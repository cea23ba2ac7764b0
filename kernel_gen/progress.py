"""How far, how fast, how long still: a live line on a terminal, a log line every half minute elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

from absl import logging
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text

LOG_EVERY = 30.0  # seconds


class Rate:
    """Counts pairs, or what `unit` says; those found finished count as done and not as speed."""

    def __init__(self, total: int, unit: str = "pairs"):
        self.unit, self.total, self.done, self.made, self.start = unit, total, 0, 0, time.monotonic()

    def found(self, pairs: int) -> None:
        """Pairs that an earlier run made."""
        self.done += pairs

    def add(self, pairs: int) -> None:
        """Pairs made now."""
        self.done += pairs
        self.made += pairs

    def __str__(self) -> str:
        speed = self.made / max(time.monotonic() - self.start, 1e-9)
        left = _time((self.total - self.done) / speed) if speed else "unknown"
        return f"{self.done / max(self.total, 1):.1%}, {speed:,.0f} {self.unit}/s, {left} left"


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class _Shown(ProgressColumn):
    def __init__(self, rate: Rate):
        super().__init__()
        self._rate = rate

    def render(self, task) -> Text:
        return Text(str(self._rate))


class _Logged(Rate):
    last = 0.0

    def add(self, pairs: int) -> None:
        super().add(pairs)
        now = time.monotonic()
        if now - max(self.last, self.start) >= LOG_EVERY:
            self.last = now
            logging.info("%s", self)


class _Live(Rate):
    def __init__(self, total: int, bar: Progress, task, unit: str):
        super().__init__(total, unit)
        self._bar, self._task = bar, task

    def found(self, pairs: int) -> None:
        super().found(pairs)
        self._bar.update(self._task, completed=self.done)

    def add(self, pairs: int) -> None:
        super().add(pairs)
        self._bar.update(self._task, completed=self.done)


@contextlib.contextmanager
def pairs_line(what: str, total: int, unit: str = "pairs") -> Iterator[Rate]:
    """Gives a `Rate` that shows itself."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _Logged(total, unit)
        return
    with Progress(TextColumn(what), BarColumn(), console=console, transient=True) as bar:
        rate = _Live(total, bar, bar.add_task(what, total=total), unit)
        bar.columns = (*bar.columns, _Shown(rate))
        yield rate
