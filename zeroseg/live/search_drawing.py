"""Draw the pictures of the search page: one, or a row of the grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageOps

from zeroseg import drawing
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.segment.encoded import Segments
from zeroseg.segment.scores import label_table
from zeroseg.words import LabelPack

LIKE = "like this"
CELL = (4, 3)  # width and height of a picture's place in the grid, as search.css has it
_PAPER = (8, 9, 11)  # search.css has the same colour


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

    def with_words(self, pack: LabelPack) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the picture with the masks of words."""
        table = label_table(self.segments.scores(pack), self.segments.sidecar.threshold)
        return self._tinted(table, pack.names)

    def with_segment(self, segment: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the picture with the mask of one segment."""
        numbers = np.arange(len(self.segments.maps))
        return self._tinted(np.where(numbers == segment, 0, -1).astype(np.int16), [LIKE])

    def _tinted(self, table: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        colors = drawing.label_colors(labels)
        return drawing.blend(self.segments.image, table[self.of_segments], colors, 0.5)


def side_by_side(pictures: Sequence[np.ndarray | None], width_px: int) -> np.ndarray:
    """(h, n w, 3) uint8 RGB: n pictures (H, W, 3) uint8 RGB, each in the middle of a cell (h, w); None: an empty cell.

    A picture is scaled to fit into the largest CELL that is at most width_px wide. (w, h) is one CELL larger, so that
    the page, which scales the row, mixes no two pictures at their edges.
    """
    units = width_px // CELL[0]
    inside, (width, height) = [units * side for side in CELL], [(units + 1) * side for side in CELL]
    row = Image.new("RGB", (len(pictures) * width, height), _PAPER)
    for i, picture in enumerate(pictures):
        if picture is not None:
            one = ImageOps.contain(Image.fromarray(picture), inside, Image.Resampling.BILINEAR)
            row.paste(one, (i * width + (width - one.width) // 2, (height - one.height) // 2))
    return np.asarray(row)
