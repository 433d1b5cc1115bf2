"""The input of the writers: a photo with the labels found on it, whichever result they came from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from zeroseg.masks import bounding_box, decode_rle

if TYPE_CHECKING:
    from zeroseg.segment.segmentation import Segmentation


@dataclass(frozen=True)
class Found:
    """A label found on a photo. index: in the label list; score: in [-1, 1]; rle: its mask, as from encode_rle."""

    index: int
    score: float
    rle: dict

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) uint8 of 0 and 1."""
        return np.ascontiguousarray(decode_rle(self.rle))

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) in pixels."""
        return bounding_box(self.mask)

    @property
    def area_px(self) -> int:
        return int(self.mask.sum())


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo and the labels found on it.

    name   the photo as the results name it.
    size   (H, W) in pixels, after EXIF orientation.
    found  the labels, largest area first.
    read   returns the photo's file, undecoded; raises OSError or ZerosegError if it no longer exists.
    """

    name: str
    size: tuple[int, int]
    found: list[Found]
    read: Callable[[], bytes]


def labelled(name: str, result: "Segmentation", read: Callable[[], bytes]) -> LabelledPhoto:
    """Turn a Segmentation into the input of the writers."""
    found = [Found(one["category_id"] - 1, one["score"], one["segmentation"]) for one in result.to_coco()]
    return LabelledPhoto(name, result.label_map.shape, found, read)
