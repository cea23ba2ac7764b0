"""The fastest of several calls, which is what these scripts report."""

import time
from collections.abc import Callable
from typing import Any


def fastest(work: Callable[[], Any], repeats: int = 3) -> float:
    """Return the seconds of the fastest of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
