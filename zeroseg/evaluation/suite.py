"""The eight sets on which open-vocabulary segmentation is published, in the published order, and where they lie.

ROOT holds the sets as mmsegmentation's data folder does:

    VOCdevkit/VOC2012, VOCdevkit/VOC2010   VOC21, VOC20; PC60, PC59
    coco_stuff164k (or coco, coco_object)  Object, Stuff: images/val2017, annotations/val2017
    cityscapes                             City: leftImg8bit/val, gtFine/val
    ade/ADEChallengeData2016               ADE (or ADEChallengeData2016)

COCO-Object is read from the same masks as COCO-Stuff, with everything that is no thing as background, as the field's
converter (datasets/cvt_coco_object.py of SCLIP and others) does; its *_instanceTrainIds.png are read where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.folders import MaskFolder, existing_folder
from zeroseg.evaluation.published_rows import COLUMNS
from zeroseg.evaluation.scene_sets import READERS as SCENE_READERS
from zeroseg.evaluation.standard_sets import READERS as STANDARD_READERS

_VOC = ("VOCdevkit/VOC2012", "VOC2012", "")
_CONTEXT = ("VOCdevkit/VOC2010", "VOC2010", "")
_COCO = ("coco_stuff164k", "coco", "")


@dataclass(frozen=True)
class SuiteSet:
    """column: of the published table. dataset: name as for --dataset. folders: where ROOT may have it, the first that
    holds one of `markers` counts. photos: how many the set has, in the
    lists that are in use. logit_scale: SCLIP's, of the probability rule.
    """

    column: str
    dataset: str
    folders: tuple[str, ...]
    markers: tuple[str, ...]
    photos: tuple[int, ...]
    logit_scale: float | None = None


_SETS = (
    ("voc", _VOC, ("SegmentationClass",), (1449,), 65.0),
    ("context", _CONTEXT, ("SegmentationClassContext",), (5104, 5105), 50.0),
    ("coco-object", ("coco_object", *_COCO), ("annotations/val2017", "stuffthingmaps"), (5000,), 50.0),
    ("voc20", _VOC, ("SegmentationClass",), (1449,), None),
    ("cityscapes", ("cityscapes", ""), ("gtFine/val",), (500,), None),
    ("context59", _CONTEXT, ("SegmentationClassContext",), (5104, 5105), None),
    ("ade20k", ("ade/ADEChallengeData2016", "ADEChallengeData2016", ""), ("annotations/validation",), (2000,), None),
    ("coco-stuff", _COCO, ("annotations/val2017", "stuffthingmaps"), (5000,), None),
)
OVSS8 = tuple(SuiteSet(column, *rest) for column, rest in zip(COLUMNS, _SETS, strict=True))
SUITES = {"ovss8": OVSS8}
# a name of --set that stands for two sets of the same files
PAIRS = {"voc": ("voc", "voc20"), "context": ("context", "context59"), "coco": ("coco-object", "coco-stuff")}


@dataclass(frozen=True)
class Found:
    """The sets that are there, column -> MaskFolder, and those that are not, column -> where they were looked for."""

    folders: Mapping[str, MaskFolder]
    missing: Mapping[str, str]


def find_sets(suite: tuple[SuiteSet, ...], root: Path, given: Mapping[str, Path]) -> Found:
    """Read the lists of every set of a suite.

    given: name of a set as for --dataset, or of PAIRS, -> its folder; a name of its own goes before a pair's.
    Raises ZerosegError for a wrong name, for a folder of `given` without the set, for a set that is there but damaged,
    and if no set is there.
    """
    existing_folder(root)
    names = [entry.dataset for entry in suite]
    if wrong := [name for name in given if name not in (*names, *PAIRS)]:
        raise ZerosegError(f"--set {wrong[0]}: expected one of {', '.join(dict.fromkeys((*names, *PAIRS)))}")
    folders, missing = {}, {}
    for entry in suite:
        pair = next((name for name, both in PAIRS.items() if entry.dataset in both and name in given), None)
        own = given.get(entry.dataset, given.get(pair) if pair else None)
        if own is not None:
            folders[entry.column] = _read(entry.dataset, own)
            continue
        place = next((root / folder for folder in entry.folders if _holds(root / folder, entry.markers)), None)
        if place is None:
            looked = " or ".join(str(root / folder) for folder in entry.folders)
            missing[entry.column] = f"no {' or '.join(entry.markers)} in {looked}"
        else:
            folders[entry.column] = _read(entry.dataset, place)
    if not folders:
        raise ZerosegError(
            f"{root}: expected some of the suite's sets, for example {root / suite[0].folders[0]}, found none; give "
            "their folders by --set NAME=PATH"
        )
    return Found(folders, missing)


def _holds(folder: Path, markers: tuple[str, ...]) -> bool:
    return any(path.exists() for marker in markers for path in (folder / marker, *folder.glob(f"{marker}_*")))


def _read(dataset: str, folder: Path) -> MaskFolder:
    return (STANDARD_READERS | SCENE_READERS)[dataset](folder)
