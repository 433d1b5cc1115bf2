"""Photos on disk: find them, detect changes, decode them.

Distillation needs only pixels, so a photo set is a folder that is walked recursively. Its fingerprint covers every
name, size and modification time, so a cache of other photos is never used for this folder. Listing, decoding and
resampling are those of inference, so that training sees the same pixels. Frames: everything is (H, W, 3) RGB uint8
after EXIF orientation; boxes are (x0, y0, x1, y1) in fractions of the photo's width and height, so that they hold at
every resolution.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zeroseg.collection.listing import Photo, compressed_hint
from zeroseg.errors import ZerosegError
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import SUFFIXES, name_below, photos_below, printable

PIXELS = "bilinear, decoded by zeroseg.photos"  # part of every fingerprint: caches of other pixels are not taken
WHOLE = (0.0, 0.0, 1.0, 1.0)  # the box of a whole photo


class UnreadablePhoto(ZerosegError):
    """A file with a photo's suffix that cannot be decoded."""


@dataclass(frozen=True)
class PhotoSet:
    """The photos under one folder, in the order of their names.

    root         the folder.
    names        paths relative to root, with forward slashes, sorted.
    fingerprint  hex digest of all names, sizes in bytes and modification times, and of how pixels are read.
    """

    root: Path
    names: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Image.Image:
        """Photo number index as an RGB PIL image; UnreadablePhoto if it cannot be decoded."""
        return read_photo(self.root / self.names[index])


def find_photos(root: str | Path, limit: int | None = None) -> PhotoSet:
    """All photos under root, hidden files left out; with limit, that many of them, evenly spaced over the names.

    Raises ZerosegError if root is not a folder or has no photos.
    """
    root = Path(root)
    if not root.is_dir():
        raise ZerosegError(f"photos: {root} is not a folder")
    found = [(name_below(root, photo.path), photo.stat()) for photo in photos_below(root)]
    if not found:
        raise ZerosegError(
            f"photos: no image in {root} or below it (looked for {' '.join(sorted(SUFFIXES))}){compressed_hint([root])}"
        )
    found.sort(key=lambda item: item[0])
    if limit is not None and limit < len(found):
        found = [found[i * len(found) // limit] for i in range(limit)]
    digest = hashlib.sha256(PIXELS.encode())
    for name, stat in found:
        digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
    return PhotoSet(root, tuple(name for name, _ in found), digest.hexdigest())


def read_photo(photo: str | Path | Photo) -> Image.Image:
    """A photo of a folder (its path) or of a shard, decoded, EXIF orientation applied, RGB.

    UnreadablePhoto names the file and the reason.
    """
    in_shard = isinstance(photo, Photo)
    name = photo.path if in_shard else os.fspath(photo)
    try:
        return Image.fromarray(load_image(photo.read() if in_shard else photo))
    except (ZerosegError, OSError) as error:
        reason = str(error).removeprefix("image: ").removeprefix(f"{name}: ")
        raise UnreadablePhoto(f"photo {printable(name)} cannot be read: {reason}") from error


def centre_square(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centred square of a photo of size (width, height), as a box in fractions of the photo."""
    width, height = size
    side = min(width, height)
    x, y = (width - side) / 2, (height - side) / 2
    return x / width, y / height, (x + side) / width, (y + side) / height


def crop_array(image: Image.Image, box, size: tuple[int, int], flip: bool = False) -> np.ndarray:
    """Cut box (x0, y0, x1, y1, in fractions) out of a photo and resize it to size (H, W) as the preprocess op does.

    Returns (H, W, 3) uint8, mirrored left to right if flip.
    """
    width, height = image.size
    pixels = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    crop = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=pixels))
    return crop[:, ::-1] if flip else crop


def name_some(names: list[str], count: int = 5) -> str:
    """The first few names, and how many more there are: "a.jpg, b.jpg and 7 more"."""
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
