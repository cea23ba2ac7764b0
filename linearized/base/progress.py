"""Lines of progress that fit the terminal: parts are left out by rank, and the time left never is."""

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
SHORTEST_BAR, LONGEST_BAR = 8, 40  # cells


class Part(NamedTuple):
    """A part of the line; those of higher rank are left out first, those of rank 0 never."""

    text: str
    rank: int = 0


def clock(seconds: float | None) -> str:
    """Return hours, minutes and seconds; "unknown" for None."""
    if seconds is None:
        return "unknown"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def fitted(parts: Sequence[Part], width: int, separator: str = "  ") -> str:
    """Return the parts that fit beside each other into `width` cells, in their order."""
    kept = [part for part in parts if part.text]
    while cell_len(separator.join(part.text for part in kept)) > width and max(part.rank for part in kept) > 0:
        place = max(range(len(kept)), key=lambda place: (kept[place].rank, place))
        del kept[place]
    return separator.join(part.text for part in kept)


class _Line:
    """Parts as Rich draws them, with a bar in front where there is room for one."""

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
    """One live line on a terminal, which is wiped at the end: `with LiveLine(console, parts): line.update(...)`."""

    def __init__(self, console: Console, total: int, parts: Callable[["LiveLine"], Sequence[Part]]):
        super().__init__(console=console, transient=True)
        self._parts = parts
        self._only = self.add_task("", total=total)

    def show(self, done: int, total: int | None = None) -> None:
        """Set how much is done, and of how much."""
        self.update(self._only, completed=done, total=total)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.tasks[0].elapsed or 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at the present speed, or None where that is not known yet."""
        left = self.tasks[0].time_remaining
        return None if left is None else float(left)

    def get_renderables(self):
        """Return the line: Rich asks for it ten times a second."""
        for task in self.tasks:
            yield _Line(self._parts(self), task.completed / max(task.total or 0, 1))


def terminal() -> Console | None:
    """Return the console of standard error, or None where that is no terminal."""
    console = Console(file=sys.stderr)
    return console if console.is_terminal else None


class Logged:
    """A log line each `LOG_EVERY` seconds at most: `log(lambda: text)`."""

    def __init__(self, every: float = LOG_EVERY):
        self._every, self._last = every, time.monotonic()

    def __call__(self, text: Callable[[], str]) -> None:
        if (now := time.monotonic()) - self._last >= self._every:
            self._last = now
            logging.info("%s", text())
