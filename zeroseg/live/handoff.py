"""From one thread to the next: every item in order, or only the newest."""

import threading
from collections import deque
from collections.abc import Callable

AWAKE = object()


class Handoff:
    """A closable queue between two threads.

    newest=True holds one item: put() never waits, and an item that nobody took in time is dropped and counted.
    newest=False holds `capacity` items in order, and put() waits for room.
    """

    def __init__(self, newest: bool = False, capacity: int = 2):
        self._newest, self._capacity = newest, 1 if newest else capacity
        self._items: deque = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, item, count: bool = True) -> bool:
        """Hand over an item; False once closed. count: whether an item that this one drops is counted."""
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
        """The next item, waiting for it; None once closed and empty. AWAKE, and no item, where wake() is true.

        wake() is asked again after poke().
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
        """Let a get() that waits ask its wake() again."""
        with self._changed:
            self._changed.notify_all()

    def close(self, discard: bool = False) -> None:
        """No more items; those inside are still given, unless discard."""
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()
