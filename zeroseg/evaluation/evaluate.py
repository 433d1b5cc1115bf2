"""Run a network over a folder of photos and masks, and collect the data of a report in one pass.

report = evaluate(predict, standard_sets.voc_dev(folder), ProtocolConfig(threshold=0.1))
print(report.table()); print(report.json_line())
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.borders import near_borders
from zeroseg.evaluation.folders import MaskFolder
from zeroseg.evaluation.label_sets import LabelSet, label_set
from zeroseg.evaluation.metrics import confusion_matrix
from zeroseg.evaluation.oracle import RULES
from zeroseg.evaluation.protocol import Predict, ProtocolConfig, read_whole
from zeroseg.evaluation.report import Report
from zeroseg.evaluation.windows import read_windows

SWEEP_PHOTOS = 16
SWEEP_STEPS = 19


def evaluate(
    predict: Predict,
    dataset: MaskFolder,
    config: ProtocolConfig | None = None,
    labels: LabelSet | None = None,
    *,
    subset: Sequence[str] = (),
    limit: int | None = None,
    sweep: Sequence[float] = (),
    on_photo: Callable[[int, np.ndarray, np.ndarray, np.ndarray], None] | None = None,
    progress: bool = False,
    begun: Report | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> Report:
    """Measure `predict` (see `protocol`) on a dataset.

    config: protocol and threshold; by default deployment without a threshold. Where a dataset has no background class,
    pixels below the threshold get no class. labels: the labels of `predict`, in its order; by default the dataset's
    official names. subset: class names whose mean is also reported. limit: use only this many photos, from the first
    on. sweep: further thresholds to measure. on_photo: called with (index, photo, truth, answer), answer (H, W) in
    class ids, C for a label that is not a class. progress: a bar on stderr. begun: the counts of the first photos by an
    earlier call with the same arguments (without sweep), which are not measured again. on_report: called after each
    photo with the counts so far.
    """
    config, labels = config or ProtocolConfig(), labels or label_set(dataset)
    classes, count = len(dataset.classes), min(len(dataset), limit or len(dataset))
    report = begun or Report(dataset, labels, config, class_ids(dataset, subset))
    thresholds = {**{t: np.zeros_like(report.confusion) for t in sweep}, config.threshold: report.confusion}
    for index in progress_bar(range(len(report.predict_ms), count), progress):
        photo, truth = dataset.load(index)
        timed = Timed(predict)
        start = time.perf_counter()
        reading = read_photo(timed, photo, len(labels.names), config)
        label_map = reading.label_map(config.threshold)
        total_ms = 1000 * (time.perf_counter() - start)
        report.predict_ms.append(timed.ms)
        report.decide_ms.append(total_ms - timed.ms)
        answer = labels.answers(label_map, dataset)
        for threshold, confusion in thresholds.items():
            at = answer if threshold == config.threshold else labels.answers(reading.label_map(threshold), dataset)
            confusion += confusion_matrix(truth, at, classes, classes + 1)
        band = near_borders(truth)
        report.near_borders += confusion_matrix(truth[band], answer[band], classes, classes + 1)
        for rule in RULES:
            oracle = reading.oracle_map(truth, classes, rule)
            if oracle is not None:
                report.oracle[rule] = report.oracle.get(rule, 0) + confusion_matrix(truth, oracle, classes)
        if on_photo:
            on_photo(index, photo, truth, answer)
        if on_report:
            on_report(report)
    report.sweep = [(t, thresholds[t]) for t in sorted(set(sweep))]
    return report


def read_photo(predict: Predict, photo: np.ndarray, names: int, config: ProtocolConfig):
    """The result of one photo by the configured protocol."""
    if config.protocol == "groupvit":
        return read_windows(predict, photo, names, config)
    scale = config.logit_scale if config.background_rule == "probability" else None
    return read_whole(predict, photo, names, scale, config.edges)


def sweep_thresholds(predict: Predict, dataset: MaskFolder, names: int, config: ProtocolConfig) -> list[float]:
    """Thresholds worth a sweep: even steps of probability for groupvit; for deployment quantiles of the best score over
    pixels of some photos, spread over the folder."""
    levels = np.linspace(0, 1, SWEEP_STEPS + 2)[1:-1]
    if config.protocol == "groupvit":
        return levels.tolist()
    some = np.unique(np.linspace(0, len(dataset) - 1, SWEEP_PHOTOS).astype(int))
    scores = [read_photo(predict, dataset.load(i)[0], names, config).score_map()[::4, ::4].ravel() for i in some]
    return sorted({float(f"{q:.4g}") for q in np.quantile(np.concatenate(scores), levels)})


def class_ids(dataset: MaskFolder, names: Sequence[str]) -> list[int]:
    """Ids of class names, plain or official; ZerosegError names the first unknown one."""
    ids = {**{n: i for i, n in enumerate(dataset.official)}, **{n: i for i, n in enumerate(dataset.classes)}}
    for name in names:
        if name not in ids:
            raise ZerosegError(f"subset: expected classes of {dataset.name}, got {name!r}; it has {', '.join(ids)}")
    return [ids[name] for name in names]


class Timed:
    """A predict function that adds up the milliseconds spent in it."""

    def __init__(self, predict: Predict):
        self.predict, self.ms = predict, 0.0

    def __call__(self, photo: np.ndarray, size: tuple[int, int] | None):
        start = time.perf_counter()
        outputs = self.predict(photo, size)
        self.ms += 1000 * (time.perf_counter() - start)
        return outputs


def progress_bar(items: range, wanted: bool):
    """`items`, optionally with a bar and ETA on stderr."""
    if not wanted:
        return items
    from tqdm import tqdm

    return tqdm(items, desc="evaluating", unit="photo", file=sys.stderr)
