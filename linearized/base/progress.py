"""Progress lines that fit the terminal's width: less important texts are left out, but never the remaining time."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from absl import logging
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.progress import Progress
from rich.text import Text

LOG_EVERY = 30.0  # seconds between log lines where there is no terminal
SHORTEST_BAR, LONGEST_BAR = 8, 40  # limits of the length of a progress bar, in terminal cells


class Part(NamedTuple):
    """One text of a progress line, such as the speed.

    Attributes:
        text: The text; "" leaves it out.
        rank: Order in which texts are left out in a narrow terminal: the largest number first, 0 never.
    """

    text: str
    rank: int = 0


def clock(seconds: float | None) -> str:
    """Return a duration as h:mm:ss, or "unknown" for None."""
    if seconds is None:
        return "unknown"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def fitted(parts: Sequence[Part], width: int, separator: str = "  ") -> str:
    """Join the texts of a progress line; those of the highest rank are left out first until the line fits.

    Texts of rank 0 are kept even if the line does not fit.

    Args:
        parts: Texts with their ranks, in the order of the line.
        width: Width of the terminal in characters.
        separator: Text between two parts.
    """
    kept = [part for part in parts if part.text]
    while cell_len(separator.join(part.text for part in kept)) > width and max(part.rank for part in kept) > 0:
        place = max(range(len(kept)), key=lambda place: (kept[place].rank, place))
        del kept[place]
    return separator.join(part.text for part in kept)


class _Line:
    """A progress line as Rich draws it: a bar where there is room for one, then the texts that fit."""

    def __init__(self, parts: Sequence[Part], share: float):
        self.parts, self.share = parts, min(max(share, 0.0), 1.0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        text = fitted(self.parts, options.max_width)
        room = min(options.max_width - cell_len(text) - 2, LONGEST_BAR)
        drawn = Text(no_wrap=True, overflow="crop")
        if room >= SHORTEST_BAR:
            full, empty = ("━", "─") if options.encoding.startswith("utf") else ("#", "-")
            done = round(self.share * room)
            drawn.append(full * done, "bar.complete").append(empty * (room - done), "bar.back").append("  ")
        yield drawn.append(text)


class LiveLine(Progress):
    """A live progress line on a terminal, erased at the end.

    Use it as `with LiveLine(console, total, parts) as line: line.show(done)`.

    Args:
        console: Console of the terminal.
        total: Total amount of work, in the unit of `done`.
        parts: Function that receives this object and returns the current texts of the line.
    """

    def __init__(self, console: Console, total: int, parts: Callable[["LiveLine"], Sequence[Part]]):
        super().__init__(console=console, transient=True)
        self._parts = parts
        self._only = self.add_task("", total=total)

    def show(self, done: int, total: int | None = None) -> None:
        """Show that `done` units of the work are finished.

        Args:
            done: Finished amount of work, in the unit of the total amount.
            total: New total amount of work; None keeps the present one.
        """
        self.update(self._only, completed=done, total=total)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.tasks[0].elapsed or 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the remaining work takes at the current speed, or None while that is unknown."""
        left = self.tasks[0].time_remaining
        return None if left is None else float(left)

    def get_renderables(self):
        """Yield the line as Rich draws it. Rich calls this method ten times a second."""
        for task in self.tasks:
            yield _Line(self._parts(self), task.completed / max(task.total or 0, 1))


def terminal() -> Console | None:
    """Return a console on standard error, or None if standard error is not a terminal."""
    console = Console(file=sys.stderr)
    return console if console.is_terminal else None


class Logged:
    """A logger that logs at most one line per `every` seconds and ignores the calls between.

    It is called as `log(lambda: text)`, so that the text of an ignored call is never computed.
    """

    def __init__(self, every: float = LOG_EVERY):
        self._every, self._last = every, time.monotonic()

    def __call__(self, text: Callable[[], str]) -> None:
        """Log `text()`, unless less than `every` seconds have passed since the last line or since the start."""
        if (now := time.monotonic()) - self._last >= self._every:
            self._last = now
            logging.info("%s", text())
