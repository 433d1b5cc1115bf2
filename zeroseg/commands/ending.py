"""How a command that runs until it is told to stop is told: Ctrl-C or SIGTERM."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C or SIGTERM came: no exception, which a second one could throw into the
    finishing of a file, or the first into the line that says where a server listens."""
    asked, before = [], {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it for its background jobs
                before[number] = signal.signal(number, lambda *_: asked.append(True))
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for_end(asked: Callable[[], bool]) -> None:
    """Return when asked_to_end's function says so."""
    while not asked():
        time.sleep(0.1)
