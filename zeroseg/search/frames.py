"""The frames of a video that are worth keeping: one at each position, unless it looks like the last one kept.

A frame is cut into CELLS x CELLS cells. It is near-identical to the last kept frame where the mean grey of no cell
differs by ALIKE or more levels of 255: noise and compression average out within a cell, a person that walks in does
not. Each stretch of a video begins with a kept frame.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from zeroseg.live.decoder import Decoder, local
from zeroseg.search.units import Unit

CELLS = 16
ALIKE = 8.0  # grey levels


def kept_frames(unit: Unit) -> Iterator[tuple[float, np.ndarray]]:
    """(position in seconds, (H, W, 3) uint8 RGB) of the frames of a stretch that are kept.

    Raises ZerosegError in one line where the video cannot be decoded.
    """
    video = Decoder(local(unit.photo.file), unit.photo.path)
    try:
        if unit.start_s:
            video.seek(unit.start_s)
        kept, position_s = None, unit.start_s
        while unit.stop_s is None or position_s < unit.stop_s:
            frame = video.read_from(position_s)
            if frame is None:
                if kept is None and not unit.start_s:
                    video.read()  # says why there is none
                return
            if unit.stop_s is not None and frame.time_s >= unit.stop_s:
                return
            cells = grey_cells(frame.image)
            if kept is None or not near_identical(cells, kept):
                kept = cells
                yield frame.time_s, frame.image
            position_s = unit.every_s * (int(frame.time_s / unit.every_s + 1e-6) + 1)
    finally:
        video.close()


def grey_cells(image: np.ndarray) -> np.ndarray:
    """(CELLS, CELLS) float32, the mean grey of each cell of an (H, W, 3) uint8 picture, in [0, 255]."""
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.convert("F").resize((CELLS, CELLS), Image.Resampling.BOX), np.float32)


def near_identical(cells: np.ndarray, others: np.ndarray) -> bool:
    """Whether no cell of two frames differs by ALIKE or more."""
    return bool(np.abs(cells - others).max() < ALIKE)


def recorded_at(path: str) -> str | None:
    """When a video says that it was recorded; None where it does not."""
    video = Decoder(local(path), path)
    try:
        return video.recorded
    finally:
        video.close()


def frame_at(path: str, time_s: float) -> np.ndarray | None:
    """The frame of a video at a position in seconds, (H, W, 3) uint8 RGB; None where it has none there."""
    video = Decoder(local(path), path)
    try:
        if time_s:
            video.seek(time_s)
        frame = video.read_from(time_s)
        return None if frame is None else frame.image
    finally:
        video.close()
