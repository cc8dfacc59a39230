"""How long something takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

REPEATS = 5


def median_milliseconds(work: Callable[[], object]) -> float:
    """Return the median time of five runs after one."""
    work()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)
