"""Reconnect a live source: a camera or stream that fails is opened again with back-off, counted and reported.

The waits double from 0.1 s up to 1 s, so that a source that returns is found within about a second.
"""

import threading
from collections.abc import Callable

from zeroseg.errors import ZerosegError
from zeroseg.live.frame import Frame, Source

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 1.0


class Reconnecting(Source):
    """A source that is opened again after a failure. The first opening must succeed; it proves the address correct.

    open_source  makes the source; raises ZerosegError if it cannot.
    say          gets a line for the user.
    """

    live = True

    def __init__(self, open_source: Callable[[], Source], say: Callable[[str], None] = lambda line: None):
        self._open, self._say = open_source, say
        self._source: Source | None = open_source()
        self.name, self.rate = self._source.name, self._source.rate
        self.reconnects = 0
        self._stopped = threading.Event()
        self._index = 0
        self._base_s: float | None = None

    def read(self) -> Frame | None:
        wait_s = FIRST_WAIT_S
        reason = "it ended"
        while not self._stopped.is_set():
            if self._source is not None:
                try:
                    frame = self._source.read()
                except ZerosegError as error:
                    frame, reason = None, str(error).removeprefix(f"{self.name}: ")
                if frame is not None:
                    self.away = None
                    return self._renumbered(frame)
                self.away = reason
                self._source.close()
                self._source = None
                if not self._stopped.is_set():
                    self._say(f"{self.name}: lost ({reason}); reconnecting")
            if self._stopped.wait(wait_s):
                break
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                self._source = self._open()
            except ZerosegError:
                continue
            self.reconnects += 1
            self._say(f"{self.name}: back (reconnect {self.reconnects})")
        return None

    def _renumbered(self, frame: Frame) -> Frame:
        """Give the frames of all connections one numbering and one clock."""
        if self._base_s is None:
            self._base_s = frame.captured_s
        frame.index = self._index
        frame.pts = round((frame.captured_s - self._base_s) / float(frame.time_base))
        self._index += 1
        return frame

    def stop(self) -> None:
        self._stopped.set()
        if (source := self._source) is not None:
            source.stop()

    def close(self) -> None:
        self._stopped.set()
        if self._source is not None:
            self._source.close()
