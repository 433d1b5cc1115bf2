"""Encode units with a model that each process loads once, into everything that a search needs.

A search reads no photo: the table has each segment's area and box, those of its mask along the photo's edges, as in
zeroseg-infer. Only drawing the masks reads the photo again.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256

import numpy as np

from zeroseg.collection.listing import SourceGone, read_listed
from zeroseg.errors import ZerosegError
from zeroseg.files import sha256 as sha256_of_file
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.masks import label_boxes
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import printable
from zeroseg.photos.taken import taken_at
from zeroseg.search.thumbnails import make_thumbnail
from zeroseg.search.units import Unit
from zeroseg.segment.encoded import Segments
from zeroseg.segment.segmenter import Segmenter

MAP_LEVEL = 6  # of zlib


@dataclass(frozen=True)
class EncodedImage:
    """The table's entry for one image of K segments.

    size        (H, W) in px.
    vectors     (K, D) float16, the model's embeddings without loss.
    areas       (K,) int64 pixels; boxes (K, 4) int64 (x, y, width, height) in pixels.
    maps        K compressed soft maps, see pack_map; grid is their (h, w).
    sha256      of the photo's bytes, or of the whole video file.
    taken       time of recording from EXIF (local time) or the video's header (UTC), without zone; None if unknown.
    position_s  position in the video in seconds; None for a photo.
    thumbnail   a JPEG file, see zeroseg.search.thumbnails.
    """

    size: tuple[int, int]
    vectors: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    maps: list[bytes]
    grid: tuple[int, int]
    sha256: bytes
    taken: datetime | None
    position_s: float | None
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class EncodedUnit:
    """The images of a unit; error: why there are none."""

    unit: Unit
    images: list[EncodedImage]
    error: str | None = None


class Batch(tuple):
    """Units that a process encodes together. number: names the batch in messages."""

    number: int

    def __new__(cls, number: int, units: tuple[Unit, ...]):
        batch = super().__new__(cls, units)
        batch.number = number
        return batch

    def __reduce__(self):
        return Batch, (self.number, tuple(self))

    def __str__(self) -> str:
        return str(self.number)


class Encoder:
    """Encodes units. Raises ZerosegError if the model cannot run or has no segments."""

    def __init__(self, model: str | None, backend: str = "auto", threads: int = 1):
        self.segmenter = Segmenter.load(model, backend, threads)
        self._digests: dict[str, bytes] = {}

    def part(
        self, batch: Batch, skip: Mapping[int, str] | None = None, on_photo: Callable[[], None] = lambda: None
    ) -> list[EncodedUnit]:
        """Encode the units of a batch in order.

        skip      index in the batch -> why that unit is skipped.
        on_photo  called after each unit.
        """
        encoded, skip = [], skip or {}
        for place, unit in enumerate(batch):
            encoded.append(EncodedUnit(unit, [], skip[place]) if place in skip else self.unit(unit))
            on_photo()
        return encoded

    def unit(self, unit: Unit) -> EncodedUnit:
        """Encode one unit; a bad file becomes the unit's error. Raises SourceGone if its folder has disappeared."""
        try:
            return EncodedUnit(unit, self._video(unit) if unit.every_s else [self._photo(unit)])
        except SourceGone:
            raise
        except (ZerosegError, ValueError, OSError, MemoryError) as error:
            text = str(error).removeprefix("image: ") or "out of memory"
            return EncodedUnit(unit, [], printable(" ".join(text.split())))

    def _photo(self, unit: Unit) -> EncodedImage:
        data = read_listed(unit.photo)
        return self._image(load_image(data), sha256(data).digest(), taken_at(data), None)

    def _video(self, unit: Unit) -> list[EncodedImage]:
        from zeroseg.search.frames import kept_frames, recorded_at

        path = unit.photo.file
        if path not in self._digests:
            self._digests = {path: bytes.fromhex(sha256_of_file(path))}
        began = _time_of(recorded_at(path))
        return [
            self._image(image, self._digests[path], began and began + timedelta(seconds=position_s), position_s)
            for position_s, image in kept_frames(unit)
        ]

    def _image(
        self, image: np.ndarray, digest: bytes, taken: datetime | None, position_s: float | None
    ) -> EncodedImage:
        segments = self.segmenter.encode(image)
        if not isinstance(segments, Segments):
            raise ZerosegError(f"model {segments.sidecar.name} has no segments, which a search needs")
        count = len(segments.maps)
        table = np.arange(count)
        label_map, _ = mask_decode(segments.maps, table, segments.size, guide=image, label_dtype="uint8")
        areas, boxes = label_boxes(label_map, count)
        maps = [pack_map(one) for one in segments.maps]
        return EncodedImage(
            segments.size,
            segments.embeddings.astype(np.float16),
            areas,
            boxes,
            maps,
            segments.maps.shape[1:],
            digest,
            taken,
            position_s,
            make_thumbnail(image),
        )


def pack_map(map_hw: np.ndarray) -> bytes:
    """Compress a soft map (h, w) float32 without loss; its values must be exact in float16."""
    return zlib.compress(map_hw.astype("<f2").tobytes(), MAP_LEVEL)


def unpack_map(packed: bytes, grid: tuple[int, int]) -> np.ndarray:
    """The inverse of pack_map: (h, w) float32. Raises ZerosegError if the bytes are no such map."""
    try:
        return np.frombuffer(zlib.decompress(packed), "<f2").reshape(grid).astype(np.float32)
    except (zlib.error, ValueError) as error:
        raise ZerosegError(
            f"a map of the collection is damaged ({error}); delete it and index the photos again"
        ) from error


def _time_of(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return found.astimezone(timezone.utc).replace(tzinfo=None) if found.tzinfo else found
