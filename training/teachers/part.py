"""What every helper teacher has in common: it says a few compact arrays of each photo, which are cached."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from PIL import Image

Values = Mapping[str, np.ndarray]


class Part(ABC):
    """One teacher's say about a photo.

    name         names its cache.
    arrays       array name -> (shape, dtype name) of one photo.
    fingerprint  JSON-able; equal for parts that give equal values.
    needs        names of parts whose values it reads.
    """

    name: str
    arrays: dict[str, tuple[tuple[int, ...], str]]
    fingerprint: dict
    needs: tuple[str, ...] = ()

    @abstractmethod
    def compute(self, image: Image.Image, photo_name: str, found: Mapping[str, Values]) -> Values:
        """RGB photo -> the declared arrays. found: what the parts in `needs` said of the same photo."""


def as_bytes(shares: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] -> uint8, 255 for 1."""
    return np.round(np.clip(shares, 0, 1) * 255).astype(np.uint8)
