"""Progress display of a job: the share done, the speed and the remaining time.

On a terminal one line is updated continuously. Without a terminal a line is logged every half minute.
"""

import contextlib
import time
from collections.abc import Iterator

from linearized.base.progress import LOG_EVERY, LiveLine, Logged, Part, clock, terminal


class Rate:
    """Counter of computed pairs of rows, for the share done, the speed and the remaining time in progress lines.

    Pairs that earlier processes computed are included in the share done, but not in the speed.

    Args:
        total: Number of all pairs.
        unit: Plural name of what is counted, such as "pairs", or "rows" of features.
    """

    def __init__(self, total: int, unit: str = "pairs"):
        self.unit, self.total, self.done, self.made, self.start = unit, total, 0, 0, time.monotonic()

    def found(self, pairs: int) -> None:
        """Count `pairs` pairs that an earlier run computed."""
        self.done += pairs

    def add(self, pairs: int) -> None:
        """Count `pairs` pairs that were computed now."""
        self.done += pairs
        self.made += pairs

    def parts(self) -> list[Part]:
        """Return the share done, the speed and the remaining time as the parts of a progress line."""
        speed = self.made / max(time.monotonic() - self.start, 1e-9)
        left = clock((self.total - self.done) / speed if speed else None)
        return [Part(f"{self.done / max(self.total, 1):.1%}"), Part(f"{speed:,.0f} {self.unit}/s", 1),
                Part(f"{left} left")]  # fmt: skip

    def __str__(self) -> str:
        return ", ".join(part.text for part in self.parts())


class _Logged(Rate):
    def __init__(self, total: int, unit: str):
        super().__init__(total, unit)
        self._log = Logged(LOG_EVERY)

    def add(self, pairs: int) -> None:
        super().add(pairs)
        self._log(lambda: str(self))


class _Live(Rate):
    line: LiveLine

    def found(self, pairs: int) -> None:
        super().found(pairs)
        self.line.show(self.done)

    def add(self, pairs: int) -> None:
        super().add(pairs)
        self.line.show(self.done)


@contextlib.contextmanager
def pairs_line(what: str, total: int, unit: str = "pairs") -> Iterator[Rate]:
    """Return a context that displays the progress of a job, and yields the `Rate` with which the job counts its pairs.

    Progress is displayed on the terminal, or in the log if there is no terminal.

    Args:
        what: Name of the job in the terminal's line.
        total: Number of all pairs.
        unit: Plural name of what is counted.
    """
    console = terminal()
    if console is None:
        yield _Logged(total, unit)
        return
    rate = _Live(total, unit)
    rate.line = LiveLine(console, total, lambda _: [Part(what, 2), *rate.parts()])
    with rate.line:
        yield rate
