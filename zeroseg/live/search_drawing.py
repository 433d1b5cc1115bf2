"""Draw the pictures of the search page: one at a time, or many in threads, each sent as soon as it is drawn."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zeroseg import drawing
from zeroseg.errors import ZerosegError
from zeroseg.kernels._threads import one_thread
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.live.picture import to_jpeg
from zeroseg.segment.encoded import Segments
from zeroseg.segment.scores import label_table
from zeroseg.words import LabelPack

LIKE = "like this"
_QUALITY = 85


@dataclass(frozen=True)
class Copy:
    """A copy of a photo with its segments; every word's mask is made of their pixels, which are decoded once.

    edges: whether masks follow the photo's edges, which takes as long as all the rest in a small picture.
    """

    segments: Segments
    edges: bool

    @cached_property
    def of_segments(self) -> np.ndarray:
        """(H, W) int16: the segment of every pixel."""
        segments, guide = self.segments, self.segments.image if self.edges else None
        return mask_decode(segments.maps, np.arange(len(segments.maps)), segments.size, guide=guide)[0]

    def with_words(self, pack: LabelPack) -> bytes:
        """A JPEG file of the picture with the masks of words."""
        table = label_table(self.segments.scores(pack), self.segments.sidecar.threshold)
        return self._tinted(table, pack.names)

    def with_segment(self, segment: int) -> bytes:
        """A JPEG file of the picture with the mask of one segment."""
        numbers = np.arange(len(self.segments.maps))
        return self._tinted(np.where(numbers == segment, 0, -1).astype(np.int16), [LIKE])

    def plain(self) -> bytes:
        """A JPEG file of the picture without masks."""
        return to_jpeg(self.segments.image, _QUALITY)

    def _tinted(self, table: np.ndarray, labels: Sequence[str]) -> bytes:
        colors = drawing.label_colors(labels)
        return to_jpeg(drawing.blend(self.segments.image, table[self.of_segments], colors, 0.5), _QUALITY)


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
