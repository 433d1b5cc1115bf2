"""Stop a long-running command by Ctrl-C or SIGTERM."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM arrived.

    It is a flag and not an exception, so a second Ctrl-C cannot interrupt the completion of a file, and the first
    cannot interrupt the line that says where a server listens.
    """
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
    """Wait until the function of asked_to_end returns true."""
    while not asked():
        time.sleep(0.1)
