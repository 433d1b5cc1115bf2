"""VOC 2012, Pascal Context and COCO-Object as users have them on disk, mapped as GroupViT maps them.

voc          VOCdevkit/VOC2012: JPEGImages, SegmentationClass (palette PNGs), ImageSets/Segmentation/val.txt; 21 classes
context      VOCdevkit/VOC2010: JPEGImages, SegmentationClassContext, ImageSets/SegmentationContext/val.txt; 60 classes
coco-object  images in images/val2017 or val2017, COCO-Stuff-164k PNGs in annotations/val2017, stuffthingmaps/val2017 or
             stuffthingmaps_trainval2017/val2017; the 80 thing ids become 1..80, every stuff id and 255 become 0
voc-dev      images, masks, list.txt with VOC's 21 ids: some photos of VOC 2012 val, never to be called that set
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from zeroseg.evaluation import class_names as names
from zeroseg.evaluation.class_files import UNKNOWN
from zeroseg.evaluation.folders import (
    MaskFolder,
    Pairs,
    existing_folder,
    first_existing,
    mask_folder,
    paired_files,
    plain_folder,
)
from zeroseg.evaluation.metrics import IGNORE


def voc(folder: str | Path) -> MaskFolder:
    """VOC 2012 val: FOLDER is VOC2012, VOCdevkit or the folder that holds VOCdevkit."""
    root = _inside(folder, ["", "VOC2012", "VOCdevkit/VOC2012"], "SegmentationClass")
    lists = "ImageSets/Segmentation/val.txt"
    files = paired_files(root, "JPEGImages", "SegmentationClass", first_existing(root, [lists], "the val list"))
    return _with_background("VOC 2012 val", files, names.VOC_PLAIN, names.VOC_OFFICIAL)


def context(folder: str | Path) -> MaskFolder:
    """Pascal Context val, 59 classes and background: FOLDER is VOC2010, VOCdevkit or what holds VOCdevkit."""
    root = _inside(folder, ["", "VOC2010", "VOCdevkit/VOC2010"], "SegmentationClassContext")
    candidates = ["ImageSets/SegmentationContext/val.txt", "ImageSets/Segmentation/val.txt"]
    files = paired_files(
        root, "JPEGImages", "SegmentationClassContext", first_existing(root, candidates, "the val list")
    )
    return _with_background("Pascal Context val", files, names.CONTEXT_PLAIN, names.CONTEXT_OFFICIAL)


def coco_object(folder: str | Path) -> MaskFolder:
    """COCO-Object: COCO val2017 with masks from COCO-Stuff-164k, raw PNGs or mmseg's *_labelTrainIds.png.

    Also takes *_instanceTrainIds.png, whose values are 0..80 already.
    """
    files, suffix = coco_stuff_files(folder, ("_instanceTrainIds.png", "_labelTrainIds.png"))
    table = {
        "_instanceTrainIds.png": identity_table(81),
        "_labelTrainIds.png": train_id_table(),
        ".png": coco_stuff_table(),
    }[suffix]
    classes = ("background", *names.COCO_THINGS)
    return mask_folder("COCO-Object val2017", files, classes, classes, 0, table)


def coco_stuff_files(folder: str | Path, converted: tuple[str, ...]) -> tuple[Pairs, str]:
    """(files, ending of the masks' names) of COCO val2017: the first ending of `converted` that is there, else
    raw PNGs.
    """
    root = existing_folder(folder)
    photo_dir = first_existing(root, ["images/val2017", "val2017"], "the photos")
    mask_dirs = ["annotations/val2017", "stuffthingmaps/val2017", "stuffthingmaps_trainval2017/val2017"]
    mask_dir = first_existing(root, mask_dirs, "the COCO-Stuff-164k masks")
    present = [p.name for p in mask_dir.glob("*.png")]
    suffix = next((ending for ending in converted if any(name.endswith(ending) for name in present)), ".png")
    files = paired_files(root, str(photo_dir.relative_to(root)), str(mask_dir.relative_to(root)), None, suffix)
    return files, suffix


def voc_dev(folder: str | Path) -> MaskFolder:
    """A development folder of VOC 2012 val photos: images, masks, list.txt, VOC's class ids."""
    files = paired_files(existing_folder(folder), "images", "masks")
    return _with_background("VOC-animals dev", files, names.VOC_PLAIN, names.VOC_OFFICIAL)


READERS: dict[str, Callable[[str | Path], MaskFolder]] = {
    "voc": voc,
    "context": context,
    "coco-object": coco_object,
    "voc-dev": voc_dev,
    "folder": plain_folder,
}


def identity_table(classes: int) -> np.ndarray:
    """(256,) int16: values 0..classes-1 mean themselves, 255 is not counted."""
    table = np.full(256, UNKNOWN, np.int16)
    table[:classes], table[IGNORE] = np.arange(classes), IGNORE
    return table


def coco_stuff_table() -> np.ndarray:
    """(256,) int16 for raw COCO-Stuff-164k PNGs: thing category id - 1 -> 1..80, stuff 91..181 and 255 -> 0."""
    table = np.full(256, UNKNOWN, np.int16)
    things = [c - 1 for c in range(1, 91) if c not in names.COCO_UNUSED_CATEGORY_IDS]
    table[things] = np.arange(1, 81)
    table[91:182], table[255] = 0, 0
    return table


def train_id_table() -> np.ndarray:
    """(256,) int16 for *_labelTrainIds.png: 0..79 things -> 1..80, 80..170 stuff and 255 -> 0."""
    table = np.full(256, UNKNOWN, np.int16)
    table[:80] = np.arange(1, 81)
    table[80:171], table[255] = 0, 0
    return table


def _with_background(name: str, files: Pairs, plain: list[str], official: list[str]) -> MaskFolder:
    table = identity_table(len(plain) + 1)
    return mask_folder(name, files, ("background", *plain), ("background", *official), 0, table)


def _inside(folder: str | Path, candidates: list[str], marker: str) -> Path:
    found = first_existing(existing_folder(folder), [f"{c}/{marker}".lstrip("/") for c in candidates], "the masks")
    return found.parent
