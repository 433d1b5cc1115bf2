"""Metrics of semantic segmentation, all from one confusion matrix over the dataset.

IoU of class c is |truth = c and prediction = c| / |truth = c or prediction = c| with both counts summed over ALL photos
first (not averaged per photo), pixels with truth 255 left out; mIoU is the mean over classes (as VOC defines it).
A confusion matrix is (C, P) int64, rows truth, columns prediction. Columns 0..C-1 are the dataset's classes. Further
columns (P > C) are labels that are not classes of the dataset (distractors); they are always wrong.

`mean_iou` mixes two kinds of error. `naming_accuracy` measures whether found foreground has the right label,
`foreground_iou` whether foreground was found at all.
"""

from __future__ import annotations

import numpy as np

IGNORE = 255


def confusion_matrix(
    truth: np.ndarray, prediction: np.ndarray, classes: int, columns: int | None = None, ignore: int = IGNORE
) -> np.ndarray:
    """Count pixels by (truth, prediction).

    truth: (H, W) or any shape, integers; 0..classes-1, or `ignore`. prediction: same shape, integers 0..columns-1.
    columns: number of possible predictions, `classes` by default. Returns (classes, columns) int64.
    Raises ValueError if shapes differ or a value is out of range (predictions under `ignore` are not checked).
    """
    columns = classes if columns is None else columns
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(f"prediction: expected shape {truth.shape} as the truth has, got {prediction.shape}")
    valid = truth != ignore
    t, p = truth[valid].astype(np.int64), prediction[valid].astype(np.int64)
    for name, values, limit in (("truth", t, classes), ("prediction", p, columns)):
        if values.size and (values.min() < 0 or values.max() >= limit):
            raise ValueError(f"{name}: expected ids 0..{limit - 1}, got {values.min()}..{values.max()}")
    return np.bincount(t * columns + p, minlength=classes * columns).reshape(classes, columns)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """IoU of every class: (C, P) int -> (C,) float64 in [0, 1]; NaN for a class neither in truth nor in predictions."""
    classes = confusion.shape[0]
    hit = np.diagonal(confusion[:, :classes]).astype(np.float64)
    union = confusion.sum(1) + confusion[:, :classes].sum(0) - hit
    return np.divide(hit, union, out=np.full(classes, np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray, subset: list[int] | None = None) -> float:
    """Mean of `iou_per_class` over all classes or a `subset` of ids, NaN classes left out; NaN if none is left."""
    iou = iou_per_class(confusion)
    iou = iou if subset is None else iou[list(subset)]
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of counted pixels with the right prediction, in [0, 1]; NaN if no pixel was counted."""
    return _share(np.trace(confusion[:, : confusion.shape[0]]), confusion.sum())


def naming_accuracy(confusion: np.ndarray, background: int | None = 0) -> float:
    """The share of foreground pixels predicted as foreground that have the right label, in [0, 1].

    background: id of the background class, None if the dataset has none. NaN if there is no such pixel.
    """
    foreground = [c for c in range(confusion.shape[0]) if c != background]
    answers = [c for c in range(confusion.shape[1]) if c != background]
    return _share(confusion[foreground, foreground].sum(), confusion[np.ix_(foreground, answers)].sum())


def foreground_iou(confusion: np.ndarray, background: int = 0) -> tuple[float, float]:
    """(IoU of foreground, IoU of background), with all labels except background as one class, each in [0, 1] or NaN."""
    truth_fg = np.arange(confusion.shape[0]) != background
    answer_fg = np.arange(confusion.shape[1]) != background
    total, both = confusion.sum(), confusion[np.ix_(truth_fg, answer_fg)].sum()
    neither = confusion[background, background]
    return _share(both, total - neither), _share(neither, total - both)


def fold_extra_answers(confusion: np.ndarray, into: int) -> np.ndarray:
    """Count predictions that are not classes of the dataset as class `into`: (C, P) -> (C, C)."""
    classes = confusion.shape[0]
    folded = confusion[:, :classes].copy()
    folded[:, into] += confusion[:, classes:].sum(1)
    return folded


def _share(part: int, whole: int) -> float:
    return float(part) / float(whole) if whole else float("nan")
