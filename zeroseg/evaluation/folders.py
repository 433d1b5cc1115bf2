"""Folders of photos and masks, read into one form: uint8 photos, masks of class ids with 255 for "do not count".

A `MaskFolder` lists pairs and knows how raw mask values become class ids. `plain_folder` reads the layout below; the
layouts of VOC 2012, Pascal Context and COCO are in `standard_sets`.

    FOLDER/images/NAME.jpg (or .png, ...)   FOLDER/masks/NAME.png   FOLDER/list.txt (optional, one NAME a line)
    FOLDER/classes.txt   one name a line, line number = id from 0; a first line "background" makes id 0 the background,
                         without it every id is a foreground class
    FOLDER/classes.yaml  or `classes:` with lines `id: name`; id 0 "unlabeled" is not counted
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.class_names import spoken_name
from zeroseg.evaluation.metrics import IGNORE
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import photos_in

UNKNOWN = -1


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
    if mask.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
        raise ZerosegError(f"{path}: expected one channel of class ids (palette or grey PNG), got a {mask.mode} image")
    raw = np.asarray(mask).astype(np.int64)
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
    photos, masks = paired_files(folder, "images", "masks", list_file)
    official = tuple(spoken_name(name) for name in classes)
    return MaskFolder(folder.resolve().name, photos, masks, classes, official, background, id_table)


def read_class_file(path: Path) -> tuple[tuple[str, ...], int | None, np.ndarray]:
    """(names by class id, background id or None, id table) of a class file as in the module docstring."""
    lines = read_text(path).splitlines()
    if path.suffix.lower() in (".yaml", ".yml"):
        start = next((i + 1 for i, line in enumerate(lines) if re.fullmatch(r"(classes|names):\s*", line)), None)
        if start is None:
            raise ZerosegError(f"{path}: expected a line 'classes:' followed by lines 'id: name'")
        named = {}
        for line in lines[start:]:
            entry = re.fullmatch(r"\s+(\d+):\s*(.+?)\s*", line)
            if entry is None:
                break
            named[int(entry[1])] = entry[2].strip("'\"")
    else:
        named = dict(enumerate(line.strip() for line in lines if line.strip()))
    ids = sorted(i for i in named if not (i == 0 and named[i].lower() in ("unlabeled", "unlabelled", "void")))
    if not ids or ids[-1] >= IGNORE:
        raise ZerosegError(
            f"{path}: expected class names with ids 0..254, got {len(ids)} up to {max(named, default=0)}"
        )
    table = np.full(256, UNKNOWN, np.int16)
    table[list(named)], table[IGNORE] = IGNORE, IGNORE
    table[ids] = np.arange(len(ids))
    background = 0 if named[ids[0]].lower() == "background" else None
    return tuple(named[i] for i in ids), background, table


def paired_files(
    folder: Path, photo_dir: str, mask_dir: str, list_file: str | Path | None = None, mask_suffix: str = ".png"
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """(photos, masks) of the names in `list_file` (or FOLDER/list.txt, or every mask), in that order."""
    photo_root, mask_root = existing_folder(folder / photo_dir), existing_folder(folder / mask_dir)
    default = folder / "list.txt"
    list_file = Path(list_file) if list_file else default if default.is_file() else None
    if list_file:
        names = [line.split()[0] for line in read_text(list_file).splitlines() if line.strip()]
    else:
        names = sorted(p.name[: -len(mask_suffix)] for p in mask_root.iterdir() if p.name.endswith(mask_suffix))
    if not names:
        raise ZerosegError(f"{list_file or mask_root}: expected at least one photo with a mask, got none")
    suffixes = {p.stem: p.name for p in photos_in(photo_root)}
    without_photo = [n for n in names if n not in suffixes]
    if without_photo:
        raise ZerosegError(
            f"{photo_root}: no photo for {len(without_photo)} of {len(names)} names, as {without_photo[0]}"
        )
    masks = tuple(mask_root / f"{n}{mask_suffix}" for n in names)
    without_mask = [m for m in masks if not m.is_file()]
    if without_mask:
        raise ZerosegError(
            f"{mask_root}: {len(without_mask)} of {len(names)} masks are missing, as {without_mask[0].name}"
        )
    return tuple(photo_root / suffixes[n] for n in names), masks


def first_existing(folder: Path, candidates: list[str], what: str) -> Path:
    """The first of `candidates` (paths inside `folder`) that exists; ZerosegError naming them all where none does."""
    for candidate in candidates:
        if (folder / candidate).exists():
            return folder / candidate
    raise ZerosegError(f"{folder}: expected {what} at {' or '.join(candidates)}, found neither")


def existing_folder(path: str | Path) -> Path:
    """`path` as a Path; ZerosegError where it is no folder."""
    if not Path(path).is_dir():
        raise ZerosegError(f"{path}: expected a folder, found {'a file' if Path(path).exists() else 'nothing'}")
    return Path(path)


def read_text(path: str | Path) -> str:
    """The text of a small file; ZerosegError where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ZerosegError(f"{path}: expected a text file, got {error.__class__.__name__}") from error


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
        return image
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ZerosegError(f"{path}: expected a readable image, got {error.__class__.__name__}") from error
