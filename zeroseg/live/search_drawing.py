"""Draw the pictures of the search page: one at a time, or many in threads, each sent as soon as it is drawn."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed

import numpy as np

from zeroseg import drawing
from zeroseg.errors import ZerosegError
from zeroseg.kernels._threads import one_thread
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.live.picture import to_jpeg
from zeroseg.segment.encoded import Segments
from zeroseg.words import LabelPack

LIKE = "like this"
_QUALITY = 85


def draw_words(segments: Segments, pack: LabelPack) -> bytes:
    """A JPEG file of the picture with the masks of words."""
    result = segments.masks(pack)
    return to_jpeg(drawing.blend(segments.image, result.label_map, result.colors, 0.5), _QUALITY)


def draw_segment(segments: Segments, segment: int) -> bytes:
    """A JPEG file of the picture with the mask of one segment."""
    label_map = np.where(all_segments(segments) == segment, 0, -1).astype(np.int16)
    return to_jpeg(drawing.blend(segments.image, label_map, drawing.label_colors([LIKE]), 0.5), _QUALITY)


def draw_nothing(segments: Segments) -> bytes:
    """A JPEG file of the picture without masks."""
    return to_jpeg(segments.image, _QUALITY)


def all_segments(segments: Segments) -> np.ndarray:
    """(H, W) int16: the segment of every pixel."""
    table = np.arange(len(segments.maps))
    return mask_decode(segments.maps, table, segments.size, guide=segments.image)[0]


def drawn_lines(images: Sequence[int], draw: Callable[[int], bytes], pool: Executor) -> Iterator[str]:
    """JSON Lines, {"image": number, "jpeg": base64}, in the order in which the pictures get ready.

    A picture for which draw() raises a ZerosegError has "wrong", the reason, in place of "jpeg". If the reader stops,
    pictures that have not been begun are left out.
    """

    def line(image: int) -> str:
        try:
            with one_thread():  # the pool has a thread for each processor
                return json.dumps({"image": image, "jpeg": b64encode(draw(image)).decode()}) + "\n"
        except ZerosegError as error:
            return json.dumps({"image": image, "wrong": str(error)}) + "\n"

    work = [pool.submit(line, image) for image in images]
    try:
        for done in as_completed(work):
            yield done.result()
    finally:
        for one in work:
            one.cancel()
