"""The compressed maps of the images of an answer, read from the table when the first is needed.

A search needs no maps, only drawing does. The maps of all images of an answer are read at once, because that takes
about as long as reading one.
"""

from collections.abc import Sequence
from threading import Lock

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.search.store import Store


class Maps:
    """The maps of images, for any number of threads.

    version          of the table in which the images were found.
    images, digests  (m,) numbers, and checksums of the images' files.
    rows             m arrays (K,): row ids of each image's segments, in order.
    """

    def __init__(
        self, store: Store, version: int, images: Sequence[int], digests: Sequence[bytes], rows: Sequence[np.ndarray]
    ):
        self._store, self._version, self._lock = store, version, Lock()
        self._wanted = dict(zip(map(int, images), digests, strict=True))
        self._rows = np.concatenate([np.zeros(0, np.int64), *rows])
        self._read: dict[int, list[bytes]] | None = None

    def of(self, image: int) -> list[bytes]:
        """The K maps of an image, in the order of its segments. Raises ZerosegError if it has been changed since."""
        with self._lock:
            if self._read is None:
                self._read = self._all()
        if image not in self._read:
            raise ZerosegError(
                f"{self._store.path}: image {image} has been changed or deleted since the search; search again"
            )
        return self._read[image]

    def _all(self) -> dict[int, list[bytes]]:
        names = ("image", "segment", "sha256", "map")
        table = self._store.rows_of_version(self._version, self._rows, names)
        if table is None:  # row ids hold in one version only; the store itself may be in use by another thread
            table = Store(self._store.path, self._store.options).images([*self._wanted], names)
        found: dict[int, dict[int, bytes]] = {}
        for image, segment, digest, one in zip(*(table[name].to_pylist() for name in names), strict=True):
            if digest == self._wanted.get(image):
                found.setdefault(image, {})[segment] = one
        return {image: [parts[segment] for segment in sorted(parts)] for image, parts in found.items()}
