"""Metrics against a per-pixel count in plain Python and against torchmetrics."""

import math

import numpy as np
import pytest

from zeroseg.evaluation import metrics


def random_maps(classes, seed, shape=(4, 37, 29), ignore_share=0.1, columns=None):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    prediction = np.where(rng.random(shape) < 0.5, truth, rng.integers(0, columns or classes, shape))
    truth[rng.random(shape) < ignore_share] = metrics.IGNORE
    return truth, prediction


def count_by_hand(truth, prediction, classes):
    """(intersections, unions) as Python integers, pixel by pixel."""
    inter, union = [0] * classes, [0] * classes
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist()):
        if t == 255:
            continue
        if t == p:
            inter[t] += 1
            union[t] += 1
        else:
            union[t] += 1
            if p < classes:
                union[p] += 1
    return inter, union


@pytest.mark.parametrize("classes,columns", [(2, 2), (7, 7), (21, 21), (21, 23)])
def test_iou_equals_count_by_hand(classes, columns):
    truth, prediction = random_maps(classes, classes, columns=columns)
    confusion = sum(metrics.confusion_matrix(t, p, classes, columns) for t, p in zip(truth, prediction))
    inter, union = count_by_hand(truth, prediction, classes)
    assert metrics.iou_per_class(confusion).tolist() == [i / u for i, u in zip(inter, union)]
    assert metrics.mean_iou(confusion) == pytest.approx(sum(i / u for i, u in zip(inter, union)) / classes, abs=1e-15)


@pytest.mark.parametrize("missing", [None, 3])
def test_iou_equals_torchmetrics(missing):
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    truth, prediction = random_maps(9, 5)
    if missing is not None:
        truth[truth == missing], prediction[prediction == missing] = 0, 0
    confusion = sum(metrics.confusion_matrix(t, p, 9) for t, p in zip(truth, prediction))
    for average in (None, "macro"):
        ref = classification.MulticlassJaccardIndex(num_classes=9, average=average, ignore_index=255)
        for t, p in zip(truth, prediction):
            ref.update(torch.from_numpy(p), torch.from_numpy(t))
        if average is None:  # torchmetrics computes in float32 and says 0 where a class is absent
            ours = np.nan_to_num(metrics.iou_per_class(confusion)).astype(np.float32)
            assert ours.tolist() == ref.compute().tolist()
            assert ref.confmat.tolist() == confusion.tolist()
        else:
            assert metrics.mean_iou(confusion) == pytest.approx(float(ref.compute()), abs=1e-7)


def test_absent_class_is_left_out_of_mean():
    confusion = np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]])
    assert math.isnan(metrics.iou_per_class(confusion)[2])
    assert metrics.mean_iou(confusion) == pytest.approx((0.8 + 10 / 12) / 2)
    assert metrics.mean_iou(confusion, [1, 2]) == pytest.approx(10 / 12)
    assert math.isnan(metrics.mean_iou(confusion, [2]))


def test_naming_and_foreground_are_told_apart():
    truth = np.array([0, 0, 0, 1, 1, 2, 2, 2, 255])
    prediction = np.array([0, 1, 3, 1, 0, 2, 1, 3, 0])  # 3 is an answer outside the dataset's classes
    confusion = metrics.confusion_matrix(truth, prediction, 3, 4)
    assert metrics.pixel_accuracy(confusion) == 3 / 8
    assert metrics.naming_accuracy(confusion) == 2 / 4
    assert metrics.foreground_iou(confusion) == (4 / 7, 1 / 4)
    folded = metrics.fold_extra_answers(confusion, 0)
    assert folded.tolist() == metrics.confusion_matrix(truth, prediction % 3, 3).tolist()
    assert metrics.naming_accuracy(confusion, None) == 3 / 8


@pytest.mark.parametrize(
    "truth,prediction,message",
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "expected shape"),
        (np.full((2, 2), 3), np.zeros((2, 2), int), "truth: expected ids 0..2, got 3..3"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "prediction: expected ids 0..2, got -1..-1"),
    ],
)
def test_bad_maps_are_refused(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        metrics.confusion_matrix(truth, prediction, 3)


def test_all_ignored_counts_nothing():
    confusion = metrics.confusion_matrix(np.full((3, 3), 255), np.full((3, 3), 7), 3)
    assert confusion.sum() == 0 and math.isnan(metrics.pixel_accuracy(confusion))
