"""Sources: a folder of images, an animated image, and files played at their own speed."""

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.live.frame import Frame, Source
from zeroseg.photos.decode import load_image

PICTURES_PER_S = 10
MILLISECOND = Fraction(1, 1000)
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")  # formats whose further frames are moments, not pages or previews


class Pictures(Source):
    """Picture files in order, each a frame of 1/rate seconds. Unreadable ones are left out and reported."""

    def __init__(self, paths: Sequence[Path], rate: float = PICTURES_PER_S, name: str | None = None):
        if not paths:
            raise ZerosegError(f"{name}: no pictures found")
        self._paths = list(paths)
        self.name = name or str(self._paths[0])
        self.rate = Fraction(rate).limit_denominator(1001)
        self.frame_count = len(self._paths)
        self._index, self._wrong = 0, []

    def read(self) -> Frame | None:
        while self._index < len(self._paths):
            start_s = time.perf_counter()
            index, self._index = self._index, self._index + 1
            try:
                image = load_image(self._paths[index])
            except ZerosegError as error:
                self._wrong.append(str(error))
                continue
            frame = Frame(image, index, index, 1 / self.rate, 1, start_s)
            frame.capture_ms = 1000 * (time.perf_counter() - start_s)
            return frame
        if len(self._wrong) == len(self._paths):
            raise ZerosegError(self._wrong[0])
        return None

    def remarks(self) -> list[str]:
        return list(self._wrong)


def is_animation(path: Path) -> bool:
    """Whether a file is an animated GIF, PNG, WebP or AVIF; False if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about size and odd EXIF: the decoder decides
            with Image.open(path) as picture:
                return picture.format in _ANIMATED and getattr(picture, "n_frames", 1) > 1
    except Exception:  # a damaged file may raise anything; reading it reports the fault
        return False


class Animation(Source):
    """An animated picture; each frame has its own duration. Damage ends it with a note."""

    def __init__(self, path: Path):
        self._picture = Image.open(path)
        self.name, self.frame_count = str(path), self._picture.n_frames
        self.rate = Fraction(1000, self._duration_ms())
        self._index = self._pts = 0
        self._wrong: list[str] = []

    def read(self) -> Frame | None:
        if self._index == self.frame_count:
            return None
        start_s = time.perf_counter()
        try:
            self._picture.seek(self._index)
            image = load_image(self._picture.copy())
        except (ZerosegError, EOFError, OSError, ValueError, SyntaxError) as error:
            if not self._index:
                raise ZerosegError(f"{self.name}: damaged or truncated ({error})") from error
            self._wrong.append(f"{self.name}: has {self.frame_count} frames, but frame {self._index + 1} is damaged")
            self._index = self.frame_count
            return None
        duration = self._duration_ms()
        frame = Frame(image, self._index, self._pts, MILLISECOND, duration, start_s)
        frame.capture_ms = 1000 * (time.perf_counter() - start_s)
        self._index, self._pts = self._index + 1, self._pts + duration
        return frame

    def _duration_ms(self) -> int:
        """The present frame's duration; like browsers, 100 ms instead of less than 20 ms."""
        told = round(self._picture.info.get("duration") or 0)
        return told if told >= 20 else 100

    def close(self) -> None:
        self._picture.close()

    def remarks(self) -> list[str]:
        return list(self._wrong)


class Paced(Source):
    """A file played in real time: frames come at their time stamps, and again from the start if loop is set.

    It counts as live (a late reader takes the newest frame), as the page needs it.
    """

    live = True

    def __init__(self, open_source: Callable[[], Source], loop: bool):
        self._open, self._loop = open_source, loop
        self._source = open_source()
        self.name, self.rate = self._source.name, self._source.rate
        self.frame_count = None if loop else self._source.frame_count
        self._stopped = threading.Event()
        self._start_s: float | None = None
        self._index, self._offset_s, self._end_s = 0, 0.0, 0.0

    def read(self) -> Frame | None:
        frame = self._source.read()
        if frame is None:
            if not self._loop or self._stopped.is_set():
                return None
            self._source.close()
            self._source = self._open()
            self._offset_s = self._end_s
            frame = self._source.read()
            if frame is None:
                return None
        now = time.perf_counter()
        if self._start_s is None:
            self._start_s = now - frame.time_s
        due_s = self._offset_s + frame.time_s
        self._stopped.wait(max(0.0, self._start_s + due_s - now))
        frame.captured_s = time.perf_counter()
        self._end_s = due_s + (float(frame.duration * frame.time_base) or float(1 / (self.rate or 25)))
        frame.pts = round(due_s / float(frame.time_base))
        frame.index, self._index = self._index, self._index + 1
        return frame

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
        self._source.close()

    def remarks(self) -> list[str]:
        return self._source.remarks()
