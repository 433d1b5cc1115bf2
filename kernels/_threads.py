"""How many CPU threads the kernels may use, for the whole process."""

import os

_limit: int | None = None


def available_threads() -> int:
    """CPU threads this process may use (its affinity where the system tells, so that containers are respected)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Threads a kernel may start, the caller's own among them."""
    return _limit or available_threads()


def set_threads(count: int | None) -> None:
    """Limit every kernel of this process to count threads; None for all that are available."""
    global _limit
    _limit = count
