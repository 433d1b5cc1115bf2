"""The sets without a background class, as users have them on disk and as mmsegmentation maps them: what is no class is
not counted, and every pixel gets a name.

voc20       as voc, the background (0) not counted; 20 classes
context59   as context, the background (0) not counted; 59 classes
coco-stuff  as coco-object, raw COCO-Stuff-164k PNGs or *_labelTrainIds.png; 80 things and 91 stuffs
ade20k      ADEChallengeData2016: images/validation, annotations/validation; 150 classes from id 1, 0 not counted
cityscapes  leftImg8bit/val/CITY/*_leftImg8bit.png, gtFine/val/CITY/*_gtFine_labelIds.png or *_labelTrainIds.png; 19
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.evaluation import class_names, scene_names
from zeroseg.evaluation.class_files import UNKNOWN
from zeroseg.evaluation.folders import MaskFolder, Pairs, existing_folder, first_existing, mask_folder, paired_files
from zeroseg.evaluation.metrics import IGNORE
from zeroseg.evaluation.standard_sets import coco_stuff_files, context, voc


def voc20(folder: str | Path) -> MaskFolder:
    """VOC 2012 val without its background."""
    return _without_background(voc(folder), "VOC 2012 val, 20 classes")


def context59(folder: str | Path) -> MaskFolder:
    """Pascal Context val without its background."""
    return _without_background(context(folder), "Pascal Context val, 59 classes")


def coco_stuff(folder: str | Path) -> MaskFolder:
    """COCO val2017 with all 171 classes of COCO-Stuff-164k."""
    files, suffix = coco_stuff_files(folder, ("_labelTrainIds.png",))
    table = _ids_from_zero(171) if suffix == "_labelTrainIds.png" else coco_stuff_ids()
    return mask_folder(
        "COCO-Stuff val2017",
        files,
        tuple(scene_names.COCO_STUFF_PLAIN),
        tuple(scene_names.COCO_STUFF_OFFICIAL),
        None,
        table,
        absent_count=True,
    )


def ade20k(folder: str | Path) -> MaskFolder:
    """ADE20K's validation photos: FOLDER is ADEChallengeData2016 or what holds it."""
    root = existing_folder(folder)
    masks = first_existing(root, ["annotations/validation", "ADEChallengeData2016/annotations/validation"], "the masks")
    root = masks.parent.parent
    files = paired_files(root, "images/validation", "annotations/validation")
    return mask_folder(
        "ADE20K val",
        files,
        tuple(scene_names.ADE20K_PLAIN),
        tuple(scene_names.ADE20K_OFFICIAL),
        None,
        zero_left_out(_ids_from_zero(151)),
        absent_count=True,
    )


def cityscapes(folder: str | Path) -> MaskFolder:
    """Cityscapes val: FOLDER holds leftImg8bit and gtFine."""
    root = existing_folder(folder)
    photo_root, mask_root = (existing_folder(root / name / "val") for name in ("leftImg8bit", "gtFine"))
    suffix, table = "_gtFine_labelTrainIds.png", _ids_from_zero(19)
    masks = sorted(mask_root.glob(f"*/*{suffix}"))
    if not masks:
        suffix, table = "_gtFine_labelIds.png", cityscapes_ids()
        masks = sorted(mask_root.glob(f"*/*{suffix}"))
    if not masks:
        raise ZerosegError(f"{mask_root}: expected CITY/*_gtFine_labelIds.png or *_labelTrainIds.png, found none")
    photos = [photo_root / mask.parent.name / mask.name.replace(suffix, "_leftImg8bit.png") for mask in masks]
    if missing := [photo for photo in photos if not photo.is_file()]:
        raise ZerosegError(
            f"{photo_root}: no photo for {len(missing)} of {len(masks)} masks, for example {missing[0].name}"
        )
    return mask_folder(
        "Cityscapes val",
        Pairs(tuple(photos), tuple(masks)),
        tuple(scene_names.CITYSCAPES_PLAIN),
        tuple(scene_names.CITYSCAPES_OFFICIAL),
        None,
        table,
        absent_count=True,
    )


READERS = {"voc20": voc20, "context59": context59, "coco-stuff": coco_stuff, "ade20k": ade20k, "cityscapes": cityscapes}


def zero_left_out(table: np.ndarray) -> np.ndarray:
    """An id table whose class 0 is not counted and whose others are one less: mmsegmentation's reduce_zero_label."""
    counted = (table > 0) & (table != IGNORE)
    return np.where(counted, table - 1, np.where(table == 0, IGNORE, table)).astype(np.int16)


def coco_stuff_ids() -> np.ndarray:
    """(256,) int16 for raw COCO-Stuff-164k PNGs, which hold category id - 1: things -> 0..79, stuff -> 80..170."""
    table = np.full(256, UNKNOWN, np.int16)
    things = [c - 1 for c in range(1, 91) if c not in class_names.COCO_UNUSED_CATEGORY_IDS]
    table[things], table[91:182], table[255] = np.arange(80), np.arange(80, 171), IGNORE
    return table


def cityscapes_ids() -> np.ndarray:
    """(256,) int16 for *_labelIds.png: ids 0..33 that are no training class are not counted."""
    table = np.full(256, UNKNOWN, np.int16)
    table[:34], table[255] = IGNORE, IGNORE
    table[list(scene_names.CITYSCAPES_IDS)] = np.arange(len(scene_names.CITYSCAPES_IDS))
    return table


def _ids_from_zero(classes: int) -> np.ndarray:
    table = np.full(256, UNKNOWN, np.int16)
    table[:classes], table[255] = np.arange(classes), IGNORE
    return table


def _without_background(dataset: MaskFolder, name: str) -> MaskFolder:
    return replace(
        dataset,
        name=name,
        classes=dataset.classes[1:],
        official=dataset.official[1:],
        background=None,
        id_table=zero_left_out(dataset.id_table),
        absent_count=True,
    )
