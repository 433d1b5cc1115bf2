"""Choose the frames of a video to keep: one at each position, unless it looks like the last kept one.

A frame is divided into CELLS x CELLS cells. It is near-identical to the last kept frame if the mean grey of every cell
differs by less than ALIKE of 255 levels. Noise and compression average out within a cell; a person who walks in does
not. The first frame of each stretch of a video is kept.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from zeroseg.live.decoder import Decoder, local
from zeroseg.search.units import Unit

CELLS = 16
ALIKE = 8.0  # grey levels


def kept_frames(unit: Unit) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (position in seconds, (H, W, 3) uint8 RGB) of each kept frame of a stretch.

    Raises ZerosegError if the video cannot be decoded.
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
                    video.read()  # raises with the reason
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
    """(CELLS, CELLS) float32 in [0, 255]: the mean grey of each cell of an (H, W, 3) uint8 RGB image."""
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.convert("F").resize((CELLS, CELLS), Image.Resampling.BOX), np.float32)


def near_identical(cells: np.ndarray, others: np.ndarray) -> bool:
    """Whether no cell of two frames differs by ALIKE or more."""
    return bool(np.abs(cells - others).max() < ALIKE)


def recorded_at(path: str) -> str | None:
    """The recording time in a video's header (ISO 8601); None if it has none."""
    video = Decoder(local(path), path)
    try:
        return video.recorded
    finally:
        video.close()


def frame_at(path: str, time_s: float) -> np.ndarray | None:
    """The frame of a video at a position in seconds, (H, W, 3) uint8 RGB; None if the video ends before."""
    video = Decoder(local(path), path)
    try:
        if time_s:
            video.seek(time_s)
        frame = video.read_from(time_s)
        return None if frame is None else frame.image
    finally:
        video.close()
