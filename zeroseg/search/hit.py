"""A search hit: the image's location, its scores and its masks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
from PIL import Image

from zeroseg.collection.listing import Photo
from zeroseg.errors import ZerosegError
from zeroseg.photos.decode import load_image
from zeroseg.search.encoding import unpack_map
from zeroseg.search.maps import Maps
from zeroseg.search.thumbnails import SIDE_PX, Thumbnail, Thumbnails, make_thumbnail, small_size
from zeroseg.segment.encoded import Segments
from zeroseg.segment.scores import label_table, segment_scores
from zeroseg.segment.segmentation import Segmentation
from zeroseg.sidecar import Sidecar
from zeroseg.words import LabelPack


@dataclass(frozen=True)
class Place:
    """The location of an image: a file, a member of a tar, or a position in a video. roots: old -> new folder."""

    path: str
    file: str
    offset: int
    size: int
    position_s: float | None
    roots: Mapping[str, str]

    @property
    def real_file(self) -> str:
        """The file to open, in the folder's present place."""
        for old, new in self.roots.items():
            if self.file == old or self.file.startswith(old.rstrip(os.sep) + os.sep):
                return new + self.file[len(old.rstrip(os.sep)) :]
        return self.file

    def image(self, least_px: int | None = None) -> np.ndarray:
        """Read (H, W, 3) uint8 RGB; least_px: as for load_image, for a smaller copy. Raises ZerosegError if the file
        cannot be read."""
        file = self.real_file
        try:
            if self.position_s is None:
                photo = Photo(self.path, file, None if self.offset < 0 else self.offset, self.size)
                return load_image(photo.read(), least_px=least_px)
            from zeroseg.search.frames import frame_at

            frame = frame_at(file, self.position_s)
        except OSError as error:
            raise ZerosegError(
                f"{file}: cannot be read ({error.strerror or error}); if its folder has moved, give --root NEW"
            ) from error
        if frame is None:
            raise ZerosegError(f"{file}: no longer has a frame at {self.position_s:.1f} s")
        return frame


@dataclass(frozen=True)
class Hit:
    """An image and its scores for a query.

    image         its number in the collection.
    score         of the query.
    scores        wanted word -> the score of its best segment, as in zeroseg-infer.
    taken         time of recording (EXIF, or the video's header); None if unknown.
    position_s    position in the video in seconds; None for a photo.
    size          (H, W) in px. sha256: of the file's bytes.
    areas, boxes  of the K segments: (K,) in px; (K, 4) of (x, y, width, height) in px.
    maps, grid    the packed maps of an answer's images, and (h, w) of this image's. Read when the first is needed.
    pack          the wanted words. threshold: the score below which a segment is background.
    """

    image: int
    place: Place
    score: float
    scores: dict[str, float]
    taken: datetime | None
    position_s: float | None
    size: tuple[int, int]
    sha256: bytes
    areas: np.ndarray
    boxes: np.ndarray
    maps: Maps
    grid: tuple[int, int]
    embeddings: np.ndarray
    pack: LabelPack
    threshold: float
    sidecar: Sidecar

    @property
    def path(self) -> str:
        """The image's name in the collection."""
        return self.place.path

    @property
    def time(self) -> str:
        """For people: the position in the video as h:mm:ss.s, else the time of recording (ISO 8601), else ""."""
        if self.position_s is not None:
            return clock(self.position_s)
        return "" if self.taken is None else self.taken.isoformat(sep=" ", timespec="seconds")

    @cached_property
    def found(self) -> np.ndarray:
        """(K,) bool: the segments whose label is a wanted word."""
        return label_table(self.segment_scores, self.threshold) >= 0

    @cached_property
    def segment_scores(self) -> np.ndarray:
        """(K, N) float32: the segments' scores for the wanted words, as in zeroseg-infer."""
        return segment_scores(self.embeddings, self.pack.vectors, self.sidecar.scoring)

    @property
    def share(self) -> float:
        """The share of the image's area that the found segments cover, in [0, 1]."""
        return float(self.areas[self.found].sum() / (self.size[0] * self.size[1]))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) in px around all found segments; zeros if there are none."""
        boxes = self.boxes[self.found & (self.areas > 0)]
        if not len(boxes):
            return 0, 0, 0, 0
        (x, y), (right, bottom) = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
        return int(x), int(y), int(right - x), int(bottom - y)

    @cached_property
    def segments(self) -> Segments:
        """The result of Segmenter.encode without the photo. image_embedding is not stored and is NaN."""
        return self._segments(None)

    def small(self, side_px: int, thumbnails: Thumbnails | None = None) -> Segments:
        """The segments on a copy of the photo with a long side of side_px, which is quick to make and to draw on.

        thumbnails  used for side_px up to SIDE_PX: the copy is the thumbnail, and a missing one is made.
        """
        if thumbnails is not None and side_px <= SIDE_PX:
            return self._segments(self._thumbnail(thumbnails))
        size = small_size(self.size, side_px)
        photo = Image.fromarray(self.place.image(least_px=min(size)))
        return self._segments(np.asarray(photo.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)))

    def _thumbnail(self, thumbnails: Thumbnails) -> np.ndarray:
        """(h, w, 3) uint8 RGB: the kept thumbnail, or one that is made and kept."""
        place, in_tar = self.place, self.place.offset >= 0
        size = small_size(self.size, SIDE_PX)
        jpeg = thumbnails.get(self.sha256, self.position_s, place.real_file, in_tar)
        if jpeg is not None:
            try:
                photo = load_image(jpeg)
                if photo.shape[:2] == size:
                    return photo
            except ZerosegError:  # a damaged one
                pass
        about = os.stat(place.real_file) if os.path.exists(place.real_file) else None  # before the photo is read
        jpeg = make_thumbnail(place.image(least_px=min(size)), size)
        if about is not None:
            length = place.size if in_tar else about.st_size
            thumbnails.put([Thumbnail(self.sha256, self.position_s, length, about.st_mtime_ns, jpeg)])
        return load_image(jpeg)

    def _segments(self, photo: np.ndarray | None) -> Segments:
        return Segments(
            image_embedding=np.full(self.embeddings.shape[1], np.nan, np.float32),
            size=self.size if photo is None else photo.shape[:2],
            sidecar=self.sidecar,
            image=photo,
            maps=np.stack([unpack_map(one, self.grid) for one in self.maps.of(self.image)]),
            embeddings=self.embeddings,
        )

    def photo(self) -> np.ndarray:
        """Read the photo: (H, W, 3) uint8 RGB. Raises ZerosegError if it cannot be read or its size has changed."""
        photo = self.place.image()
        if photo.shape[:2] != self.size:
            raise ZerosegError(
                f"{self.path}: its size has changed; bring the collection up to date: zeroseg index -o DIR"
            )
        return photo

    def segmentation(self, edges: bool = True) -> Segmentation:
        """The result of zeroseg-infer for the image and the wanted words. edges=False is coarser and reads no file."""
        return self._segments(self.photo() if edges else None).masks(self.pack, self.threshold, edges=edges)

    def mask(self, edges: bool = True) -> np.ndarray:
        """(H, W) bool: the pixels of the wanted words. edges: as for segmentation()."""
        return self.segmentation(edges).label_map >= 0


def clock(seconds: float) -> str:
    """h:mm:ss.s"""
    tenths = round(10 * seconds)
    return f"{tenths // 36000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"
