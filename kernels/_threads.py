"""How many CPU threads the kernels may use, for the whole process."""

import functools
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from zeroseg.kernels._cpu_quota import cpu_quota

_limit: int | None = None
_here = threading.local()  # .single: one_thread() is in force in this thread


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
    return 1 if getattr(_here, "single", False) else _limit or available_threads()


def set_threads(count: int | None) -> None:
    """Limit every kernel of this process to count threads; None for all that are available."""
    global _limit
    _limit = count


@contextmanager
def one_thread() -> Iterator[None]:
    """Let kernels that this thread calls start no threads: for callers that run several at the same time."""
    before = getattr(_here, "single", False)
    _here.single = True
    try:
        yield
    finally:
        _here.single = before
