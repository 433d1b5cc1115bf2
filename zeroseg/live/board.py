"""The content of the page: the newest picture, encoded once for all viewers, and the newest statistics."""

import asyncio
import io
import threading

import numpy as np
from PIL import Image

from zeroseg.live.picture import to_jpeg
from zeroseg.live.sinks import Output, Sink


class Board(Sink):
    """The newest frame for any number of viewers. A slow viewer never delays the others.

    write() is called by the pipeline's thread; everything async runs in the server's event loop.
    """

    wants_picture = takes_repeats = True

    def __init__(self, quality: int = 80):
        self._quality = quality
        self._lock = threading.Lock()
        self._output: Output | None = None
        self.jpeg = b""
        self.number = 0
        self.viewers = 0
        self.pictures_sent = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None

    def attach(self) -> None:
        """Call this once in the event loop, which then gets the notifications."""
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()

    def write(self, output: Output) -> None:
        jpeg = to_jpeg(output.picture, self._quality)
        with self._lock:
            self._output, self.jpeg = output, jpeg
            self.number += 1
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self, seen: int, timeout_s: float) -> int:
        """Wait for a picture other than number `seen`; return the newest number, which is `seen` after the timeout."""
        if self.number == seen:
            try:
                await asyncio.wait_for(self._changed.wait(), timeout_s)
            except asyncio.TimeoutError:  # noqa: UP041 (its own class before Python 3.11)
                pass
        return self.number

    @property
    def output(self) -> Output | None:
        with self._lock:
            return self._output

    def png(self) -> bytes | None:
        """The newest picture as PNG; None before the first."""
        output = self.output
        return None if output is None else to_png(output.picture)


def to_png(picture: np.ndarray | Image.Image) -> bytes:
    """Encode (H, W, 3) uint8 RGB or a PIL image."""
    data = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(data, "PNG", compress_level=1)
    return data.getvalue()
