"""The frames of the pipeline, and the interface of their sources."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

UNKNOWN_COLOR = 2  # FFmpeg's number for unknown primaries and transfers
MICROSECOND = Fraction(1, 1_000_000)  # the time base of sources without one


@dataclass
class Frame:
    """One picture of a source.

    image      (H, W, 3) uint8 RGB, upright.
    index      its number in the source, from 0; skipped frames count.
    pts        its time in units of time_base; the source's first frame has 0.
    duration   how long it is shown, in units of time_base; 0 if unknown.
    pixel_aspect  width of a pixel over its height: 1, except from old camcorders and broadcasts.
    color      (primaries, transfer) of the source by FFmpeg's numbers; 2 is unknown. The picture's values are not
               converted; the numbers are for writing a video.
    captured_s perf_counter() at capture, for the latency.
    """

    image: np.ndarray
    index: int
    pts: int
    time_base: Fraction = MICROSECOND
    duration: int = 0
    captured_s: float = field(default_factory=time.perf_counter)
    capture_ms: float = 0.0
    pixel_aspect: Fraction = Fraction(1)
    color: tuple[int, int] = (UNKNOWN_COLOR, UNKNOWN_COLOR)

    @property
    def time_s(self) -> float:
        return float(self.pts * self.time_base)


class Source(ABC):
    """A source of frames. Not thread-safe: one thread reads and closes.

    live         frames come at their own rate; a late reader must take the newest.
    frame_count  number of frames, None if unknown.
    rate         frames per second, None if unknown.
    lost         frames of a live source that were lost before they could be read, if known.
    away         why a reconnecting source is lost at the moment; None while it is connected.
    """

    name: str = ""
    live: bool = False
    frame_count: int | None = None
    rate: Fraction | None = None
    reconnects: int = 0
    lost: int = 0
    away: str | None = None

    @abstractmethod
    def read(self) -> Frame | None:
        """The next frame, None after the last. Raises ZerosegError in one line."""

    def close(self) -> None:  # noqa: B027 (many sources hold nothing)
        """Release files and devices; may be called twice."""

    def stop(self) -> None:  # noqa: B027
        """Make a read() that waits in another thread return soon."""

    def remarks(self) -> list[str]:
        """Notes for the user after the last frame, one per line."""
        return []
