"""test://: an animated scene that needs no camera. Every frame is a function of its number alone.

A red disc, a green square and a blue triangle move over a dark background with a brightness ramp. A white bar at the
top shows the frame's number in binary, so that a test can tell which frame it sees: frame_number().
"""

import time
from fractions import Fraction
from functools import lru_cache
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image, ImageDraw

from zeroseg.errors import ZerosegError
from zeroseg.live.frame import Frame, Source

BITS = 16
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
_LIMITS = {"width": (16, 7680), "height": (16, 4320), "fps": (1, 240), "frames": (1, 10**9)}


class TestPattern(Source):
    """test://?size=640x480&fps=30&frames=100&live=1: live frames come at their rate, others at once."""

    __test__ = False  # tells pytest that this is no test class

    def __init__(self, url: str = "test://"):
        asked = parse_qs(urlsplit(url).query, keep_blank_values=True)
        unknown = set(asked) - {"size", "fps", "frames", "live"}
        if unknown:
            raise ZerosegError(f"{url}: {', '.join(sorted(unknown))}: expected size=WxH, fps, frames or live=0|1")
        width, _, height = asked.get("size", ["1280x720"])[-1].partition("x")
        self.width = _number(url, "width", width)
        self.height = _number(url, "height", height)
        self.rate = Fraction(_number(url, "fps", asked.get("fps", ["30"])[-1]))
        self.frame_count = _number(url, "frames", asked["frames"][-1]) if "frames" in asked else None
        self.live = asked.get("live", ["1"])[-1] != "0"
        self.name = url
        self._index, self._start_s = 0, None
        self._background = _background(self.height, self.width)

    def read(self) -> Frame | None:
        if self.live:
            now = time.perf_counter()
            self._start_s = now if self._start_s is None else self._start_s
            late = int((now - self._start_s) * self.rate) - self._index
            if late > 1:  # like a camera, drop the frames that nobody fetched in time
                self._index += late
                self.lost += late
            time.sleep(max(0.0, self._start_s + float(self._index / self.rate) - now))
        if self.frame_count is not None and self._index >= self.frame_count:
            return None
        start_s = time.perf_counter()
        image = self.picture(self._index)
        frame = Frame(image, self._index, self._index, 1 / self.rate, 1, start_s)
        frame.capture_ms = 1000 * (time.perf_counter() - start_s)
        self._index += 1
        return frame

    def picture(self, index: int) -> np.ndarray:
        """Frame `index`, (H, W, 3) uint8 RGB."""
        image = self._background.copy()
        size = min(self.height, self.width) * 2 // 5
        phase = 2 * np.pi * index / 150
        for k, (color, shape) in enumerate([(RED, "disc"), (GREEN, "square"), (BLUE, "triangle")]):
            x = (self.width - size) * (0.5 + 0.5 * np.sin(phase * (1 + 0.25 * k) + 2.1 * k))
            y = (self.height - size) * (0.5 + 0.45 * np.cos(phase * (0.75 + 0.25 * k) + 1.3 * k))
            _stamp(image, int(x), int(y), _spans(shape, size), color)
        cell = max(1, min(self.height // 24, self.width // (2 * BITS)))
        bits = [(index >> bit) & 1 for bit in range(BITS)]
        image[:cell, : cell * BITS] = np.repeat(np.array(bits, np.uint8) * 255, cell)[None, :, None]
        return image


def frame_number(image: np.ndarray) -> int:
    """The number that the bar of a (H, W, 3) uint8 frame shows."""
    cell = max(1, min(image.shape[0] // 24, image.shape[1] // (2 * BITS)))
    centres = image[cell // 2, cell // 2 : cell * BITS : cell].mean(1)
    return sum(1 << bit for bit in range(BITS) if centres[bit] > 127)


def _background(height: int, width: int) -> np.ndarray:
    ramp = np.linspace(8, 40, width, dtype=np.float32)[None] + np.linspace(0, 24, height, dtype=np.float32)[:, None]
    return np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)


@lru_cache(maxsize=3)
def _spans(kind: str, size: int) -> tuple[tuple[int, int], ...]:
    """Where each row of a convex shape begins and ends. Filling spans takes a tenth of the time of a mask."""
    mask = Image.new("1", (size, size))
    draw, end = ImageDraw.Draw(mask), size - 1
    if kind == "disc":
        draw.ellipse((0, 0, end, end), fill=1)
    elif kind == "square":
        draw.rectangle((0, 0, end, end), fill=1)
    else:
        draw.polygon([(end / 2, 0), (0, end), (end, end)], fill=1)
    inside = np.asarray(mask)
    begins, ends = inside.argmax(1), size - inside[:, ::-1].argmax(1)
    return tuple((int(b), int(e)) for b, e in zip(begins, np.where(inside.any(1), ends, begins), strict=True))


def _stamp(image: np.ndarray, x: int, y: int, spans, color) -> None:
    """Fill spans of (H, W, 3) uint8 in place, their first row at y, column 0 at x."""
    line = np.tile(np.array(color, np.uint8), len(spans))
    rows = image.reshape(len(image), -1)[y:]
    for row, (begin, end) in zip(rows, spans):  # rows below the picture's edge are left out
        row[3 * (x + begin) : 3 * (x + end)] = line[: 3 * (end - begin)]


def _number(url: str, name: str, text: str) -> int:
    low, high = _LIMITS[name]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise ZerosegError(f"{url}: {name}: expected {low} to {high}, got {text!r}")
    return int(text)
