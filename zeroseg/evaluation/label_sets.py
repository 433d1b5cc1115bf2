"""Which words the model is asked for: three sets per folder, as a result holds only for the words it was made with.

official     the names that the protocol uses
plain        the dataset's own class list
distractors  plain, and 50 everyday names of things that are no class of VOC, Pascal Context or COCO-Stuff

The 50 were written down before any result was seen, from common object names (as LVIS has them) that are none of those
sets' classes nor a synonym, part or kind of one. An answer that is a distractor counts as wrong on every pixel, also on
background: it is a column of its own in the confusion matrix. Reports also give the mIoU with such answers read
as background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.folders import MaskFolder

KINDS = ("official", "plain", "distractors")

DISTRACTORS = tuple(
    "guitar,violin,piano,drum,trumpet,accordion,harp,hammer,screwdriver,wrench,ladder,shovel,broom,bucket,paintbrush,"
    "candle,camera,binoculars,microphone,calculator,typewriter,stapler,pencil,magnet,compass,globe,thermometer,syringe,"
    "wheelchair,parachute,balloon,helmet,crown,necklace,hammock,basket,doll,trophy,medal,sword,bell,hourglass,statue,"
    "rabbit,turtle,squirrel,spider,butterfly,lawn mower,sewing machine".split(",")
)


@dataclass(frozen=True)
class LabelSet:
    """kind: one of KINDS. names: (N) what the model is asked. class_ids: (N) int64 ids of their classes, C = none."""

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
    if kind == "distractors":
        extra = [name for name in DISTRACTORS if name not in asked]
        asked, ids = asked + extra, ids + [len(names)] * len(extra)
    return LabelSet(kind, tuple(asked), np.array(ids, np.int64))
