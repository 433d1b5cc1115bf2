"""The labels of an evaluation: four sets per dataset, because a result holds only for its labels.

official     the names that GroupViT's protocol uses
plain        the dataset's own class list
distractors  plain, and 50 everyday things that are not classes of VOC, Pascal Context or COCO-Stuff
published    the words of SCLIP's evaluations on the eight sets (published_names)
absent       those 50 alone: measures how many pixels get a label that is not in the photos
(a file)     a line of comma-separated words for each class in the order of their ids, background included

The 50 were written before any result was seen. They are common object names (as in LVIS) that are not classes of those
sets, nor synonyms, parts or kinds of their classes. A distractor counts as wrong on every pixel, also on background: it
has its own column in the confusion matrix. Reports also give the mIoU with distractors counted as background.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.class_files import read_text
from zeroseg.evaluation.folders import MaskFolder

KINDS = ("official", "plain", "distractors", "absent")
WITH_DISTRACTORS = ("distractors", "absent")

DISTRACTORS = tuple(
    "guitar,violin,piano,drum,trumpet,accordion,harp,hammer,screwdriver,wrench,ladder,shovel,broom,bucket,paintbrush,"
    "candle,camera,binoculars,microphone,calculator,typewriter,stapler,pencil,magnet,compass,globe,thermometer,syringe,"
    "wheelchair,parachute,balloon,helmet,crown,necklace,hammock,basket,doll,trophy,medal,sword,bell,hourglass,statue,"
    "rabbit,turtle,squirrel,spider,butterfly,lawn mower,sewing machine".split(",")
)


@dataclass(frozen=True)
class LabelSet:
    """kind: one of KINDS. names: (N) the model's labels. class_ids: (N) int64 ids of their classes, C = none."""

    kind: str
    names: tuple[str, ...]
    class_ids: np.ndarray

    def answers(self, label_map: np.ndarray, dataset: MaskFolder) -> np.ndarray:
        """Class ids 0..C (C = no class of the dataset) of a label map (H, W) int with values -1 (background)..N-1."""
        nothing = len(dataset.classes) if dataset.background is None else dataset.background
        return np.append(self.class_ids, nothing)[label_map]


def label_set(dataset: MaskFolder, kind: str = "official") -> LabelSet:
    """The names of `kind` for a dataset; the background class has none."""
    if kind not in KINDS:
        raise ZerosegError(f"labels: expected one of {', '.join(KINDS)}, got {kind!r}")
    names = dataset.official if kind == "official" else dataset.classes
    ids = [c for c in range(len(names)) if c != dataset.background]
    asked = [names[c] for c in ids]
    if twice := next((c for c in ids if names.index(names[c]) < c), None):
        pair = f"{dataset.classes[names.index(names[twice])]!r} and {dataset.classes[twice]!r}"
        raise ZerosegError(
            f"labels {kind}: {pair} both get the label {names[twice]!r}; use --labels plain, or give --names"
        )
    if kind in WITH_DISTRACTORS:
        asked, ids = (asked, ids) if kind == "distractors" else ([], [])
        extra = [name for name in DISTRACTORS if name not in asked]
        asked, ids = asked + extra, ids + [len(names)] * len(extra)
    return LabelSet(kind, tuple(asked), np.array(ids, np.int64))


def label_set_from_file(dataset: MaskFolder, path: str | Path) -> LabelSet:
    """Words of a file, as those that come with published evaluations: line i has the words of class i, of which the
    best counts; words on the background's line mean background. ZerosegError where lines and classes do not fit.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if len(lines) != len(dataset.classes):
        raise ZerosegError(
            f"{path}: expected {len(dataset.classes)} lines, one for each class of {dataset.name}, got {len(lines)}"
        )
    words = [(word.strip(), i) for i, line in enumerate(lines) for word in line.split(",") if word.strip()]
    names = [word for word, _ in words]
    if twice := next((word for word in names if names.count(word) > 1), None):
        raise ZerosegError(f"{path}: {twice!r} occurs twice; a word can mean only one class")
    if empty := [i for i in range(len(lines)) if i not in {i for _, i in words}]:
        raise ZerosegError(f"{path}: line {empty[0] + 1} has no word")
    return LabelSet("file", tuple(names), np.array([i for _, i in words], np.int64))
