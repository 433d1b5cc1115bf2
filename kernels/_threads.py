"""How many CPU threads the kernels may use, for the whole process."""

import functools
import math
import os

from zeroseg.kernels._cpu_quota import cpu_quota

_limit: int | None = None


def available_threads() -> int:
    """CPU threads this process may use: by its affinity and, in a container, by its CPU quota, rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


@functools.cache
def _quota() -> float | None:
    return cpu_quota()


def threads() -> int:
    """Threads a kernel may start, the caller's own among them."""
    return _limit or available_threads()


def set_threads(count: int | None) -> None:
    """Limit every kernel of this process to count threads; None for all that are available."""
    global _limit
    _limit = count
