"""Adjust a source's frames before anything else uses them: rotate, flip, scale, skip."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.live.frame import Frame, Source

ROTATIONS = (0, 90, 180, 270)
FLIPS = ("horizontal", "vertical", "both")


@dataclass(frozen=True)
class Adjustment:
    """rotate: degrees clockwise; flip: after rotate; size: (width, height) in px that a larger picture is scaled down
    to fit, with its aspect kept.

    fps: largest frame rate; every: only every n-th frame; max_frames: the source ends after this many.
    """

    rotate: int = 0
    flip: str | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None
    every: int = 1
    max_frames: int | None = None

    def __post_init__(self):
        if self.rotate not in ROTATIONS:
            raise ZerosegError(f"rotate: expected {', '.join(map(str, ROTATIONS))}, got {self.rotate}")
        if self.flip not in (None, *FLIPS):
            raise ZerosegError(f"flip: expected {', '.join(FLIPS)}, got {self.flip!r}")
        if self.fps is not None and not self.fps > 0:
            raise ZerosegError(f"fps: expected more than 0, got {self.fps}")
        if self.every < 1 or (self.max_frames is not None and self.max_frames < 1):
            raise ZerosegError("every and max-frames: expected at least 1")


class Adjusted(Source):
    """A source whose frames are adjusted. They keep their numbers and times."""

    def __init__(self, source: Source, adjustment: Adjustment):
        self._source, self._adjustment = source, adjustment
        self.name, self.live, self.rate = source.name, source.live, source.rate
        count = source.frame_count
        if count is not None:
            count = -(-count // adjustment.every)
            if adjustment.fps and self.rate and adjustment.fps < self.rate / adjustment.every:
                count = round(count * adjustment.fps * adjustment.every / float(self.rate))
        limits = [n for n in (count, adjustment.max_frames) if n is not None]
        self.frame_count = min(limits) if limits else None
        self._seen = self._taken = 0
        self._next_s = 0.0

    @property
    def reconnects(self) -> int:
        return self._source.reconnects

    @property
    def lost(self) -> int:
        return self._source.lost

    @property
    def away(self) -> str | None:
        return self._source.away

    def read(self) -> Frame | None:
        want = self._adjustment
        while want.max_frames is None or self._taken < want.max_frames:
            frame = self._source.read()
            if frame is None:
                return None
            self._seen += 1
            if (self._seen - 1) % want.every:
                continue
            if want.fps:
                if frame.time_s < self._next_s - 1e-6:
                    continue
                # steps of 1/fps from the first frame keep the mean rate; a gap restarts them
                self._next_s = max(self._next_s + 1 / want.fps, frame.time_s)
            if want.every > 1:
                frame.duration *= want.every
            self._taken += 1
            frame.image = adjusted(frame.image, want)
            if want.rotate % 180:
                frame.pixel_aspect = 1 / frame.pixel_aspect
            return frame
        return None

    def stop(self) -> None:
        self._source.stop()

    def close(self) -> None:
        self._source.close()

    def remarks(self) -> list[str]:
        ended = self._adjustment.max_frames is not None and self._taken >= self._adjustment.max_frames
        return [] if ended else self._source.remarks()


def adjusted(image: np.ndarray, want: Adjustment) -> np.ndarray:
    """Rotate, flip and scale an (H, W, 3) uint8 picture; the result is contiguous."""
    if want.rotate:
        image = np.rot90(image, -want.rotate // 90)
    if want.flip in ("horizontal", "both"):
        image = image[:, ::-1]
    if want.flip in ("vertical", "both"):
        image = image[::-1]
    image = np.ascontiguousarray(image)
    if want.size:
        height, width = image.shape[:2]
        scale = min(1.0, want.size[0] / width, want.size[1] / height)
        target = max(1, round(width * scale)), max(1, round(height * scale))
        if target != (width, height):
            image = np.array(Image.fromarray(image).resize(target, Image.Resampling.BILINEAR, reducing_gap=2.0))
    return image
