"""Units of indexing: a photo or a stretch of a video. A unit is encoded completely or not at all.

A video is divided into stretches of STRETCH positions. So several processes can share a long video, and a kill loses at
most one stretch per process.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from zeroseg.collection.listing import Photo, list_photos
from zeroseg.errors import ZerosegError
from zeroseg.live.kinds import VIDEO_SUFFIXES
from zeroseg.photos.listing import suffix_of

STRETCH = 64  # positions of a video in one unit


class Key(NamedTuple):
    """Identifies a unit: the file as bytes (its name may not be UTF-8), the offset in a tar or -1, the stretch."""

    file: bytes
    offset: int
    stretch: int


class Unit(NamedTuple):
    """A photo, or a stretch of a video with start_s <= position < stop_s in seconds (None: to the end).

    bytes     size of the photo or video, to detect changes.
    mtime_ns  modification time of the file, or of the tar with the photo.
    every_s   seconds between positions of a video; 0 for a photo.
    """

    photo: Photo
    bytes: int
    mtime_ns: int
    stretch: int = 0
    start_s: float = 0.0
    stop_s: float | None = None
    every_s: float = 0.0

    @property
    def key(self) -> Key:
        offset = -1 if self.photo.offset is None else self.photo.offset
        return Key(os.fsencode(self.photo.file), offset, self.stretch)


def list_units(sources: Mapping[str, str] | Iterable[str], leave: Iterable[str], every_s: float) -> Iterator[Unit]:
    """List every unit of the sources: folders, images, videos and tar files. leave, errors: as for list_photos.

    sources: paths, or a mapping from each path to its name in the paths of its photos.
    A file that disappears during the listing is left out. A video of unknown length is one unit.
    """
    tars: dict[str, int] = {}
    names = sources if isinstance(sources, Mapping) else {}
    for photo in list_photos(sources, leave, VIDEO_SUFFIXES):
        photo = photo._replace(path=_called(photo.path, names))
        try:
            if photo.offset is not None:
                if photo.file not in tars:
                    tars = {photo.file: os.stat(photo.file).st_mtime_ns}
                yield Unit(photo, photo.size, tars[photo.file])
                continue
            about = os.stat(photo.file)
        except OSError:
            continue
        unit = Unit(photo, about.st_size, about.st_mtime_ns)
        if suffix_of(photo.file) in VIDEO_SUFFIXES:
            yield from _stretches(unit._replace(every_s=every_s))
        else:
            yield unit


def _called(path: str, names: Mapping[str, str]) -> str:
    for source, name in names.items():
        if path == source or path.startswith(source.rstrip("/") + "/"):
            return name.rstrip("/") + path[len(source.rstrip("/")) :]
    return path


def _stretches(video: Unit) -> Iterator[Unit]:
    length_s = STRETCH * video.every_s
    count = max(1, int(-(-_duration_s(video.photo.file) // length_s)))
    for number in range(count):
        stop_s = None if number == count - 1 else (number + 1) * length_s
        yield video._replace(stretch=number, start_s=number * length_s, stop_s=stop_s)


def _duration_s(path: str) -> float:
    """The length of a video; 0 if it is unknown. Decoding the video reports the reason."""
    from zeroseg.live.decoder import Decoder, local

    try:
        video = Decoder(local(path), path)
    except ZerosegError:
        return 0.0
    try:
        return video.duration_s or 0.0
    finally:
        video.close()
