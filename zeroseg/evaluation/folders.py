"""Read folders of photos and masks: uint8 photos, and masks of class ids where 255 means "not counted".

A `MaskFolder` lists pairs and maps raw mask values to class ids. `plain_folder` reads the layout below; the
layouts of VOC 2012, Pascal Context and COCO are in `standard_sets`.

    FOLDER/images/NAME.jpg (or .png, ...)   FOLDER/masks/NAME.png   FOLDER/list.txt (optional, one NAME a line)
    FOLDER/classes.txt or classes.yaml   see `class_files`; without a class "background" every pixel gets a name
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.class_files import UNKNOWN, read_class_file, read_text
from zeroseg.evaluation.class_names import spoken_name
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import photos_in
from zeroseg.photos.png_chunks import without_large_text


@dataclass(frozen=True)
class MaskFolder:
    """Pairs of photo and mask, and the meaning of the mask values.

    name: what reports call it. photos, masks: file paths, pair by pair. classes: (C) plain names by class id.
    official: (C) the protocol's names. background: class id of the background, None where there is none.
    id_table: (256,) int16, raw mask value -> class id, 255 (not counted) or UNKNOWN. absent_count: whether a class
    that no mask contains is in the mean as soon as a pixel is given its name, as mmsegmentation has it; always so where
    there is a background.
    """

    name: str
    photos: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: tuple[str, ...]
    official: tuple[str, ...]
    background: int | None
    id_table: np.ndarray
    absent_count: bool = False
    without_mask: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.photos)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(photo (H, W, 3) uint8 RGB, mask (H, W) uint8 class ids or 255), both in the mask's frame.

        The photo is turned by its EXIF orientation, unless the mask fits only the photo as stored.
        Raises ZerosegError for an unreadable file, sizes that differ, or a mask value of no class.
        """
        photo = load_image(self.photos[index])
        mask = class_ids(_open(self.masks[index]), self.id_table, self.masks[index])
        if photo.shape[:2] != mask.shape:
            stored = load_image(self.photos[index], turn=False)
            if stored.shape[:2] != mask.shape:
                raise ZerosegError(
                    f"{self.masks[index]}: expected a mask of {photo.shape[1]}x{photo.shape[0]} as its photo, "
                    f"got {mask.shape[1]}x{mask.shape[0]}; masks must not be resized"
                )
            photo = stored
        return photo, mask


def class_ids(mask: Image.Image, id_table: np.ndarray, path: Path) -> np.ndarray:
    """Class ids (H, W) uint8 of a palette, grey or 16-bit mask image; ZerosegError for colours or unknown values."""
    scale = _grey_scale(mask)
    if mask.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
        raise ZerosegError(f"{path}: expected one channel of class ids (palette or grey PNG), got a {mask.mode} image")
    try:
        raw = np.asarray(mask).astype(np.int64) // scale
    except (OSError, SyntaxError, ValueError) as error:
        raise ZerosegError(f"{path}: expected a readable image, got a damaged one ({error})") from error
    known = (raw >= 0) & (raw < len(id_table))
    ids = np.where(known, id_table[np.where(known, raw, 0)], UNKNOWN)
    if (ids == UNKNOWN).any():
        values = np.unique(raw[ids == UNKNOWN]).tolist()
        raise ZerosegError(f"{path}: expected ids of the class list or 255, got {values[:8]}; is this the right set?")
    return ids.astype(np.uint8)


def plain_folder(
    folder: str | Path, class_file: str | Path | None = None, list_file: str | Path | None = None
) -> MaskFolder:
    """Read a folder laid out as the module docstring says; `class_file` and `list_file` override the ones inside."""
    folder = existing_folder(folder)
    if class_file is None:
        class_file = first_existing(folder, ["classes.txt", "classes.yaml"], "a class list")
    classes, background, id_table = read_class_file(Path(class_file))
    files = paired_files(folder, "images", "masks", list_file)
    official = tuple(spoken_name(name) for name in classes)
    return mask_folder(folder.resolve().name, files, classes, official, background, id_table)


@dataclass(frozen=True)
class Pairs:
    """photos, masks: file paths, pair by pair. without_mask: the photos that have no mask and were not asked for."""

    photos: tuple[Path, ...]
    masks: tuple[Path, ...]
    without_mask: tuple[Path, ...] = ()


def mask_folder(name: str, files: Pairs, classes, official, background, id_table, absent_count=False) -> MaskFolder:
    """A MaskFolder of these files."""
    return MaskFolder(
        name,
        files.photos,
        files.masks,
        tuple(classes),
        tuple(official),
        background,
        id_table,
        absent_count,
        files.without_mask,
    )


def paired_files(
    folder: Path, photo_dir: str, mask_dir: str, list_file: str | Path | None = None, mask_suffix: str = ".png"
) -> Pairs:
    """Photos and masks of the names in `list_file` (or FOLDER/list.txt, or every mask), in that order.

    A line of the list is a name, with or without a suffix; if no photo has that name, its first word is taken. Raises
    ZerosegError if a name has no photo or no mask, or two of them.
    """
    photo_root, mask_root = existing_folder(folder / photo_dir), existing_folder(folder / mask_dir)
    default = folder / "list.txt"
    list_file = Path(list_file) if list_file else default if default.is_file() else None
    photos = _by_name(photos_in(photo_root), lambda path: path.stem)
    masks = _by_name(
        sorted(p for p in mask_root.iterdir() if p.name.lower().endswith(mask_suffix.lower()) and p.name[0] != "."),
        lambda path: path.name[: -len(mask_suffix)],
    )
    if list_file:
        lines = [line.strip() for line in read_text(list_file).splitlines() if line.strip()]
        names = [_named(line, photos) for line in lines]
    else:
        names = sorted(masks)
    if not names:
        raise ZerosegError(f"{list_file or mask_root}: expected at least one photo with a mask, got none")
    if without_photo := [n for n in names if n not in photos]:
        raise ZerosegError(
            f"{photo_root}: no photo for {len(without_photo)} of {len(names)} names, for example {without_photo[0]}"
        )
    if missing := [n for n in names if n not in masks]:
        raise ZerosegError(
            f"{mask_root}: {len(missing)} of {len(names)} masks are missing, for example {missing[0]}{mask_suffix}"
        )
    if twice := next((found[n] for n in names for found in (photos, masks) if len(found[n]) > 1), None):
        raise ZerosegError(f"{twice[0]} and {twice[1].name} have the same name before the suffix; remove one of them")
    left = () if list_file else tuple(path for name, paths in photos.items() if name not in masks for path in paths)
    return Pairs(tuple(photos[n][0] for n in names), tuple(masks[n][0] for n in names), left)


def _named(line: str, photos: dict[str, list[Path]]) -> str:
    """The name that a line of a list means: the line, the line without its suffix, or its first word likewise."""
    word = line.split()[0]
    return next(
        (name for name in (line, os.path.splitext(line)[0], word, os.path.splitext(word)[0]) if name in photos), word
    )


def _by_name(paths: list[Path], name_of: Callable[[Path], str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(name_of(path), []).append(path)
    return found


def first_existing(folder: Path, candidates: list[str], what: str) -> Path:
    """The first of `candidates` (paths inside `folder`) that exists; ZerosegError names them all if none does."""
    for candidate in candidates:
        if (folder / candidate).exists():
            return folder / candidate
    raise ZerosegError(f"{folder}: expected {what} at {' or '.join(candidates)}, found neither")


def existing_folder(path: str | Path) -> Path:
    """`path` as a Path; ZerosegError if it is not a folder."""
    if not Path(path).is_dir():
        raise ZerosegError(f"{path}: expected a folder, found {'a file' if Path(path).exists() else 'nothing'}")
    return Path(path)


def _grey_scale(mask: Image.Image) -> int:
    """What Pillow multiplies the values of grey files with 2 or 4 bits by, so that they fill 8 bits; 1 for others."""
    arguments = mask.tile[0][3] if getattr(mask, "tile", None) else ""
    rawmode = arguments if isinstance(arguments, str) else arguments[0]
    return {"L;2": 85, "L;4": 17}.get(rawmode, 1)


def _open(path: Path) -> Image.Image:
    """A mask, not decoded yet: a decoded one does not tell the bits of its file."""
    try:
        return Image.open(io.BytesIO(without_large_text(path.read_bytes())))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ZerosegError(f"{path}: expected a readable image, got {error.__class__.__name__}") from error
