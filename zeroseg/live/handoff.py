"""A queue from one thread to the next: every item in order, or only the newest."""

import threading
from collections import deque
from collections.abc import Callable

AWAKE = object()


class Handoff:
    """A closable queue between two threads.

    newest=True holds one item: put() never waits, and an item that was not taken in time is dropped and counted.
    newest=False holds `capacity` items in order, and put() waits for room.
    """

    def __init__(self, newest: bool = False, capacity: int = 2):
        self._newest, self._capacity = newest, 1 if newest else capacity
        self._items: deque = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, item, count: bool = True) -> bool:
        """Hand over an item; False once closed. count: whether to count an item that this one replaces."""
        with self._changed:
            if self._newest and self._items:
                self._items.clear()
                self.dropped += count
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, wake: Callable[[], bool] = lambda: False):
        """Wait for the next item; None once closed and empty. AWAKE instead of an item if wake() is true.

        wake() is called again after poke().
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items or wake())
            if self._closed and not self._items:
                return None
            if wake():
                return AWAKE
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def poke(self) -> None:
        """Make a waiting get() call its wake() again."""
        with self._changed:
            self._changed.notify_all()

    def close(self, discard: bool = False) -> None:
        """Accept no more items; those inside are still given out, unless discard."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()
