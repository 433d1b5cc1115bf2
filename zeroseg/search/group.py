"""Images to be scored exactly, with their vectors and what a hit shows of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zeroseg.search.reduced import FACTS, SEGMENT, Reduced, as_rows
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


def kept_group(store: Store, reduced: Reduced, at: np.ndarray) -> Group:
    """Images by their indices in the reduced arrays. Only the vectors are read from the table."""
    some, starts = reduced.segments(at)
    rows = reduced.rows[some]
    vectors = _vectors(store.rows(rows, ["vector"]))
    first = np.r_[starts, len(some)]
    return Group(reduced.images[at], first, rows, vectors, reduced.areas[some], reduced.boxes[some])


def stored_group(store: Store, numbers: Sequence[int]) -> Group:
    """Images by their numbers, read from the table; those that do not exist are left out."""
    table = store.images(numbers, SEGMENT)
    table = table.sort_by([("image", "ascending"), ("segment", "ascending")])
    images, starts = np.unique(np.asarray(table["image"]), return_index=True)
    rows, areas = np.asarray(table["_rowid"]).astype(np.int64), np.asarray(table["area"])
    boxes = as_rows(table["box"].combine_chunks())
    return Group(images, np.r_[starts, len(table)], rows, _vectors(table), areas, boxes)


def stored_facts(store: Store, group: Group, chosen: Sequence[int]) -> list[dict]:
    """The facts of some images of a group, read from the table."""
    return store.rows(group.rows[group.first[list(chosen)]], FACTS).to_pylist()


def _vectors(table) -> np.ndarray:
    """(n, D) float32 of an Arrow table's vectors."""
    return as_rows(table["vector"].combine_chunks()).astype(np.float32)
