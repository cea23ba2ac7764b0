"""Progress of a computation: a live line on a terminal, otherwise a log line every 30 seconds."""

import contextlib
import time
from collections.abc import Callable, Iterator

from linearized.base.progress import LOG_EVERY, LiveLine, Logged, Part, clock, terminal


@contextlib.contextmanager
def progress_line(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Show the progress of a computation within a `with` block: steps done, a note, and the time left.

    Args:
        what: Name of the computation.
        total: Largest number of steps that is expected.

    Yields:
        Function `report(done, note="", total=None)` to call after each step; its `total` replaces the first one.
    """
    console = terminal()
    if console is None:
        yield _logger(what, total)
        return
    now = {"done": 0, "note": "", "total": total}

    def parts(line: LiveLine) -> list[Part]:
        return [
            Part(what, 1), Part(f"{now['done']}/{now['total']}"), Part(now["note"], 2), Part(clock(line.seconds), 3),
            Part(f"{clock(line.seconds_left)} left"),
        ]  # fmt: skip

    with LiveLine(console, total, parts) as line:

        def report(done: int, note: str = "", total: int | None = None) -> None:
            now.update(done=done, note=note, total=now["total"] if total is None else total)
            line.show(done, now["total"])

        yield report


def _logger(what: str, expected: int) -> Callable[..., None]:
    start, log = time.monotonic(), Logged(LOG_EVERY)
    first: int | None = None

    def report(done: int, note: str = "", total: int | None = None) -> None:
        nonlocal first
        total = expected if total is None else total
        first = done - 1 if first is None else first  # a resumed run does not start at 0
        left = (time.monotonic() - start) / max(done - first, 1) * (total - done)
        parts = (f"{done} of at most {total}", note, f"at most {left:.0f} s left")
        log(lambda: f"{what}: {', '.join(filter(None, parts))}")

    return report
