"""Keep memory constant while large frames pass from thread to thread for hours."""

import ctypes

ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h of glibc


def limit_arenas(count: int = ARENAS) -> bool:
    """Let glibc's threads share `count` heaps; call it before they start. False for another C library.

    By default each thread gets a heap, up to eight per core. A frame that is allocated in one heap and freed by another
    thread leaves a hole that only that heap can use, so memory grows by a frame at every stall of the machine.
    """
    try:
        return ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count) == 1
    except (AttributeError, OSError, TypeError):  # musl and macOS have no mallopt; Windows no process-wide handle
        return False
