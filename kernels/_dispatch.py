"""Which implementation of an op runs.

impl="auto" takes the first one that can run here and logs the choice once; an implementation asked for by name runs
or raises, so that nobody measures something else than they think. ZEROSEG_IMPL=reference (or native, ...) replaces
"auto" for every op that has it.
"""

import logging
import os
from collections.abc import Callable, Mapping

from zeroseg.errors import UnavailableError

_log = logging.getLogger("zeroseg.kernels")
_announced: set[tuple[str, str]] = set()
_last: dict[str, str] = {}


def choose_impl(op: str, requested: str, why_not: Mapping[str, Callable[[], str | None]]) -> str:
    """Return the implementation to run.

    op        the op's name, for messages and last_impl.
    requested "auto" or a key of why_not.
    why_not   implementations, best first; each function returns None if it can run here, else the reason.
    """
    if requested != "auto" and requested not in why_not:
        raise ValueError(f"{op}: impl must be one of auto, {', '.join(why_not)}; got {requested!r}")
    wanted = requested
    if requested == "auto" and os.environ.get("ZEROSEG_IMPL") in why_not:
        wanted = os.environ["ZEROSEG_IMPL"]
    if wanted == "auto":
        chosen = next(name for name, reason in why_not.items() if reason() is None)
    elif (reason := why_not[wanted]()) is not None:
        raise UnavailableError(f"{op}: impl={wanted!r} cannot run here: {reason}")
    else:
        chosen = wanted
    if (op, chosen) not in _announced:
        _announced.add((op, chosen))
        _log.info("%s: %s", op, chosen)
    _last[op] = chosen
    return chosen


def last_impl(op: str) -> str | None:
    """The implementation that ran last for this op; tests assert it."""
    return _last.get(op)


def always() -> None:
    """The why_not of an implementation that runs everywhere."""
