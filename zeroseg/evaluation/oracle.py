"""Oracle labels: each segment named after the ground truth, which tells bad grouping from bad naming.

Rules: "iou" gives a segment the class (background included) whose region in the photo it overlaps with the greatest
IoU, as GroupViT's paper does; "majority" the class of most of its pixels. Pixels that are not counted have no say. Ties
go to the lower class id, a segment without counted pixels to class 0.
"""

from __future__ import annotations

import numpy as np

from zeroseg.evaluation.metrics import IGNORE

RULES = ("iou", "majority")


def label_counts(segments: np.ndarray, mask: np.ndarray, count: int, classes: int) -> np.ndarray:
    """(count, classes) int64: pixels of each segment by class. segments, mask: (H, W) ints, mask 255 not counted."""
    valid = mask != IGNORE
    pairs = segments[valid].astype(np.int64) * classes + mask[valid]
    return np.bincount(pairs, minlength=count * classes).reshape(count, classes)


def oracle_labels(counts: np.ndarray, rule: str) -> np.ndarray:
    """(K) int64 class ids from (K, C) pixel counts, by one of RULES."""
    if rule == "majority":
        return counts.argmax(1)
    union = counts.sum(1, keepdims=True) + counts.sum(0) - counts
    return (counts / np.maximum(union, 1)).argmax(1)
