"""Images to be scored exactly, with their vectors and what a hit shows of them."""

from typing import NamedTuple

import numpy as np

from zeroseg.search.reduced import Reduced, as_rows
from zeroseg.search.store import Store


class Group(NamedTuple):
    """m images, and the n segments of all, image by image.

    images   (m,) int64 numbers; first (m + 1,): where each image's segments begin.
    rows     (n,) int64 row ids; vectors (n, D) float32; areas (n,) int64 in px; boxes (n, 4) int32 in px.
    """

    images: np.ndarray
    first: np.ndarray
    rows: np.ndarray
    vectors: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray

    def part(self, i: int) -> slice:
        """The segments of image i."""
        return slice(self.first[i], self.first[i + 1])


def read_group(store: Store, reduced: Reduced, at: np.ndarray) -> Group:
    """Images by their indices in the reduced arrays. Only the vectors are read from the table."""
    some, starts = reduced.segments(at)
    rows = reduced.rows[some]
    vectors = as_rows(store.rows(rows, ["vector"])["vector"].combine_chunks()).astype(np.float32)
    first = np.r_[starts, len(some)]
    return Group(reduced.images[at], first, rows, vectors, reduced.areas[some], reduced.boxes[some])
