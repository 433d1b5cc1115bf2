"""Write a dataset: name, split and copy the photos, and let a Writer write their labels in one format.

The files go to a temporary folder, which is renamed when complete. An existing folder is never written into, because
someone may have corrected its labels.
"""

import hashlib
import io
import json
import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.files import fitting, make_folder, partial_path, safe_name
from zeroseg.formats.photo import LabelledPhoto
from zeroseg.formats.polygons import TOLERANCE_PX, Part, parts_of, require_polygons
from zeroseg.photos.decode import load_image

JPEG_QUALITY = 95
_ORIENTATION = 0x0112  # EXIF tag
_NAME_ROOM = len("-000000.json")


@dataclass(frozen=True)
class DatasetOptions:
    """shapes: "polygons" or "masks", None for the format's default; tolerance_px: as for parts_of.

    photos: whether to copy the photos into the dataset. val: the share of photos kept for validation, in [0, 1], chosen
    by a hash of their names; None for the format's default.
    """

    shapes: str | None = None
    tolerance_px: float = TOLERANCE_PX
    photos: bool = True
    val: float | None = None


@dataclass(frozen=True)
class Place:
    """The place of a photo in the dataset.

    stem    its name without suffix, unique in the dataset.
    file    its file's name, or the original name if photos are not copied.
    split   "train" or "val".
    number  counted from 0.
    """

    stem: str
    file: str
    split: str
    number: int


class Writer(ABC):
    """Writes one format. shapes: those it can hold, its default first; most_labels: its limit, None if there is none.

    splits: whether it has a validation set; val: the default share of it; jpeg_only: whether photos must be JPEG files.
    """

    shapes: tuple[str, ...] = ("polygons", "masks")
    most_labels: int | None = None
    splits = False
    val = 0.0
    jpeg_only = False

    def __init__(self, folder: Path, names: list[str], options: DatasetOptions):
        self.folder, self.names, self.options = folder, names, options
        self.as_masks = (options.shapes or self.shapes[0]) == "masks"

    @abstractmethod
    def photo_folder(self, split: str) -> Path:
        """The folder for photos of a split, relative to the dataset's folder."""

    @abstractmethod
    def add(self, photo: LabelledPhoto, place: Place) -> None:
        """Write the labels of a photo."""

    def close(self) -> None:  # noqa: B027 (some formats need no such file)
        """Write the files about the whole dataset."""

    def parts(self, mask) -> list[Part]:
        """The mask's polygons at the tolerance of the options."""
        return parts_of(mask, self.options.tolerance_px)


class Dataset:
    """A context manager that writes a dataset. It makes no folder if the block raises or adds no photo."""

    def __init__(self, kind: str, folder: Path, names: list[str], options: DatasetOptions, option: str = "-o"):
        """names: the label list; it fixes the classes' ids, order and names. option: names the folder in messages.

        Raises ZerosegError if the folder exists and is not empty, or if the format cannot hold what the options ask
        for; UnavailableError if polygons need a package that is not installed.
        """
        from zeroseg.formats.kinds import writer_class

        writer = writer_class(kind)
        refuse_existing(folder, option)
        refuse_options(kind, names, options)
        if (options.shapes or writer.shapes[0]) == "polygons":
            require_polygons()
        self._folder, self._partial = folder, partial_path(folder)
        shutil.rmtree(self._partial, ignore_errors=True)  # left by a run that was killed
        make_folder(self._partial, option)
        self._val = writer.val if options.val is None else options.val
        self._taken: set[str] = set()
        self.photos = 0
        self._writer = writer(self._partial, names, options)

    def add(self, photo: LabelledPhoto) -> None:
        """Write a photo and its labels. Raises ZerosegError, naming the photo, if it can no longer be read."""
        split = "val" if in_val(photo.name, self._val) else "train"
        stem = self._stem(photo.name)
        folder = self._partial / self._writer.photo_folder(split)
        file = photo.name
        if self._writer.options.photos:
            folder.mkdir(parents=True, exist_ok=True)
            suffix, data = upright(photo, self._writer.jpeg_only)
            file = stem + suffix
            (folder / file).write_bytes(data)
        self._writer.add(photo, Place(stem, file, split, self.photos))
        self.photos += 1

    def _stem(self, name: str) -> str:
        own = safe_name(fitting(Path(name.replace("\\", "/")).stem, _NAME_ROOM))
        stem, number = own, 1
        while stem.lower() in self._taken:  # some file systems ignore upper and lower case
            number += 1
            stem = f"{own}-{number}"
        self._taken.add(stem.lower())
        return stem

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is None and self.photos:
                self._writer.close()
                if self._folder.is_dir():
                    self._folder.rmdir()  # it is empty
                self._partial.replace(self._folder)
        except OSError as fault:
            raise ZerosegError(f"{self._folder}: cannot be written ({fault.strerror or fault})") from fault
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)


def refuse_existing(folder: Path, option: str) -> None:
    """Raise ZerosegError if the folder exists and is not empty."""
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ZerosegError(f"{folder}: already exists, and its labels may have been corrected; choose another {option}")


def refuse_options(kind: str, names: list[str], options: DatasetOptions) -> None:
    """Raise ZerosegError if a format cannot hold what the options ask for."""
    from zeroseg.formats.kinds import writer_class

    writer = writer_class(kind)
    if options.shapes and options.shapes not in writer.shapes:
        raise ZerosegError(f"--shapes {options.shapes}: {kind} holds {' and '.join(writer.shapes)} only")
    if options.val and not writer.splits:
        raise ZerosegError(f"--val: {kind} has no validation set; leave it out")
    if writer.most_labels is not None and len(names) > writer.most_labels:
        raise ZerosegError(
            f"{kind} holds {writer.most_labels} labels at most, the list has {len(names)}; use coco, or fewer labels"
        )


def in_val(name: str, share: float) -> bool:
    """Whether a photo is kept for validation. Only its name and the share in [0, 1] decide."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < share * 2**64


def upright(photo: LabelledPhoto, jpeg_only: bool) -> tuple[str, bytes]:
    """(suffix, bytes) of a photo's file, with its pixels stored upright, as in the masks.

    A file without EXIF orientation keeps its bytes. A file with one, or of another type where the format needs JPEG,
    becomes a JPEG of quality 95. Raises ZerosegError, naming the photo, if it cannot be read or its size does not match
    its labels.
    """
    try:
        data = photo.read()
        with Image.open(io.BytesIO(data)) as picture:
            turned = picture.getexif().get(_ORIENTATION, 1) not in (0, 1)
            stays = not turned and (picture.format == "JPEG" or not jpeg_only)
            size = picture.size[::-1]
        image = None if stays else load_image(data)
    except (OSError, ValueError, SyntaxError, ZerosegError) as error:
        raise ZerosegError(
            f"{photo.name}: was labelled, but can no longer be read ({getattr(error, 'strerror', None) or error}); "
            "run from the folder that the results were made in, or use --no-photos"
        ) from error
    size = size if image is None else image.shape[:2]
    if size != tuple(photo.size):
        raise ZerosegError(
            f"{photo.name}: has {size[0]} x {size[1]} pixels, but its labels have {photo.size[0]} x {photo.size[1]}; "
            "it is not the photo that was labelled"
        )
    if image is None:
        return Path(photo.name.partition("#")[0]).suffix.lower() or ".jpg", data
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return ".jpg", buffer.getvalue()


def write_json(path: Path, document) -> None:
    """Write a JSON document; make its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")


class JsonArray:
    """A JSON array written element by element, so that memory does not grow with it. The caller closes the file."""

    def __init__(self, file: IO[str]):
        self._file, self._any = file, False
        file.write("[")

    def add(self, element) -> None:
        self._file.write((",\n" if self._any else "\n") + json.dumps(element, ensure_ascii=False))
        self._any = True

    def end(self) -> None:
        self._file.write("\n]")
