"""The words that published evaluations on the eight sets give to CLIP's text tower.

These are SCLIP's, which NACLIP and SC-CLIP use unchanged (wangf3014/SCLIP b56bd30, sinahmr/NACLIP 0cac3a6,
SuleBai/SC-CLIP 0417ba9). A class has one word or several, of which the best counts. Names of two words are often
written as one; that is part of the protocol.

Others differ: ClearCLIP asks for "person" and "tvmonitor" alone on VOC, and on VOC and COCO-Object for the word
"background"; SFP asks for "people" where SCLIP asks for "person" on VOC and Cityscapes.
"""

from __future__ import annotations

import numpy as np

from zeroseg.dense.spec import BACKGROUND
from zeroseg.errors import ZerosegError
from zeroseg.evaluation import class_names, scene_names
from zeroseg.evaluation.label_sets import LabelSet

PERSON = "person,person in shirt,person in jeans,person in dress,person in sweater,person in skirt,person in jacket"
_VOC = {
    "boat": "ship",
    "dining table": "table",
    "person": PERSON,
    "potted plant": "pottedplant",
    "tv monitor": "television monitor,tv monitor,monitor,television,screen",
}
_CONTEXT = {"potted plant": "pottedplant", "tv monitor": "tvmonitor"}
_BACKGROUND = ",".join(BACKGROUND)


def _words(names, changes: dict[str, str] | None = None) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple((changes or {}).get(name, name).split(",")) for name in names)


def _in_one(names) -> tuple[tuple[str, ...], ...]:
    return tuple((name.replace(" ", ""),) for name in names)


# name of a set as for --dataset -> the words of each class in the order of their ids
WORDS = {
    "voc": _words([_BACKGROUND, *class_names.VOC_PLAIN], _VOC),
    "context": _words(["background", *class_names.CONTEXT_PLAIN], _CONTEXT),
    "coco-object": _words([_BACKGROUND, *class_names.COCO_THINGS], {"person": f"{PERSON},body"}),
    "voc20": _words(class_names.VOC_PLAIN, _VOC),
    "cityscapes": _in_one(scene_names.CITYSCAPES_OFFICIAL),
    "context59": _words(class_names.CONTEXT_PLAIN, _CONTEXT),
    "ade20k": _in_one(scene_names.ADE20K_OFFICIAL),
    "coco-stuff": _in_one(scene_names.COCO_STUFF_OFFICIAL),
}


def published_labels(dataset: str) -> LabelSet:
    """The published words of a set, named as for --dataset. ZerosegError for a set without them."""
    if dataset not in WORDS:
        raise ZerosegError(f"labels published: expected one of {', '.join(WORDS)}, got the set {dataset}")
    pairs = [(word, i) for i, words in enumerate(WORDS[dataset]) for word in words]
    return LabelSet("published", tuple(word for word, _ in pairs), np.array([i for _, i in pairs], np.int64))
