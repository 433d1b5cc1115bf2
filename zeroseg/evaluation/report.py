"""The report of an evaluation: a table for people and one JSON line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

from zeroseg.evaluation import metrics
from zeroseg.evaluation.borders import REACH_PX
from zeroseg.evaluation.folders import MaskFolder
from zeroseg.evaluation.label_sets import WITH_DISTRACTORS, LabelSet
from zeroseg.evaluation.protocol import ProtocolConfig

SWEEP_TITLE = "threshold sweep (optimistic: chosen on the test masks)"

ONE_VALUE_HINT = (
    "at most one class has pixels in these masks: 255 is never counted, so masks of 0 and 255 "
    "must be changed to 0 and 1"
)


@dataclass
class Report:
    """Counts of one evaluation.

    confusion: (C, C+1) int64, the last column for labels that are not classes. near_borders: the same for pixels near
    the masks' borders. subset: class ids whose mean is also given. oracle: rule -> (C, C). sweep: (threshold, (C, C+1))
    pairs. predict_ms, decide_ms: per photo, the network (with resizing) and the protocol after it. about: further data
    to keep with the numbers (model, machine, ...).
    """

    dataset: MaskFolder
    labels: LabelSet
    config: ProtocolConfig
    subset: list[int] = field(default_factory=list)
    confusion: np.ndarray = None
    near_borders: np.ndarray = None
    oracle: dict[str, np.ndarray] = field(default_factory=dict)
    sweep: list[tuple[float, np.ndarray]] = field(default_factory=list)
    predict_ms: list[float] = field(default_factory=list)
    decide_ms: list[float] = field(default_factory=list)
    about: dict = field(default_factory=dict)

    def __post_init__(self):
        classes = len(self.dataset.classes)
        if self.confusion is None:
            self.confusion = np.zeros((classes, classes + 1), np.int64)
        if self.near_borders is None:
            self.near_borders = np.zeros((classes, classes + 1), np.int64)

    def mean_iou(self, confusion: np.ndarray | None = None, of_subset: bool = False) -> float:
        """mIoU over all classes or the subset; without a background class, over those that some mask contains, unless
        the dataset's absent classes count.
        """
        confusion = self.confusion if confusion is None else confusion
        ids = self.subset if of_subset else list(range(len(confusion)))
        if self.dataset.background is None and not self.dataset.absent_count:
            ids = [c for c in ids if confusion[c].any()]
        return metrics.mean_iou(confusion, ids) if ids else math.nan

    def summary(self) -> dict:
        """All numbers as a dict of plain values; shares in [0, 1], None for 0 / 0."""
        background, classes = self.dataset.background, self.dataset.classes
        out = {
            "dataset": self.dataset.name,
            "photos": len(self.predict_ms),
            "labels": self.labels.kind,
            "names": len(self.labels.names),
            "config": self.config.in_use(),
            **self._means("miou", self.confusion),
            **self._means("miou_near_borders", self.near_borders),
            "near_borders_px": REACH_PX,
            "subset": [classes[c] for c in self.subset],
            "iou": dict(zip(classes, metrics.iou_per_class(self.confusion).tolist())),
            "pixel_accuracy": metrics.pixel_accuracy(self.confusion),
            "naming_accuracy": metrics.naming_accuracy(self.confusion, background),
        }
        if background is not None:
            folded = metrics.fold_extra_answers(self.confusion, background)
            out["foreground_iou"], out["background_iou"] = metrics.foreground_iou(self.confusion, background)
            if self.labels.kind in WITH_DISTRACTORS:
                out.update(self._means("miou_distractors_as_background", folded))
                out["distractor_share"] = float(self.confusion[:, -1].sum() / max(self.confusion.sum(), 1))
        for rule, confusion in self.oracle.items():
            out.update(self._means(f"oracle_{rule}", confusion))
        for name, values in (("predict_ms", self.predict_ms), ("decide_ms", self.decide_ms)):
            quantiles = np.quantile(values, [0.5, 0.1, 0.9]) if values else [math.nan] * 3
            out[name] = dict(zip(("median", "p10", "p90"), (round(float(q), 2) for q in quantiles)))
        if self.sweep:
            out["sweep_optimistic"] = [{"threshold": t, **self._means("miou", c)} for t, c in self.sweep]
        return _plain({**out, **self.about})

    def json_line(self) -> str:
        """`summary` as one line of JSON."""
        return json.dumps(self.summary())

    def table(self) -> str:
        """The table for people: classes, means, detection, labelling, speed; shares in percent."""
        s = self.summary()
        counts = self.confusion.sum(1)
        lines = [f"{s['dataset']}: {s['photos']} photos, {s['names']} names ({s['labels']}), {s['config']['protocol']}"]
        if s["config"].get("edges"):
            lines += ["masks follow the photo's edges"]
        lines += [f"background where the score is below {self.config.threshold:.4g}"] * (
            self.dataset.background is not None
        )
        width = max(len(name) for name in s["iou"]) + 2
        lines += ["", f"{'class':<{width}}{'IoU':>6}{'pixels':>12}"]
        for c, (name, iou) in enumerate(s["iou"].items()):
            mark = " *" if c in self.subset else ""
            if counts[c] or iou is not None and self.dataset.background is not None:
                lines.append(f"{name:<{width}}{_percent(iou)}{counts[c]:>12,}{mark}")
        if len(counts) > 1 and (counts > 0).sum() < 2:
            lines.append(ONE_VALUE_HINT)
        rows = [("mIoU", "miou"), (f"mIoU within {REACH_PX} px of the masks' borders", "miou_near_borders")]
        rows += [("mIoU, distractors counted as background", "miou_distractors_as_background")]
        rows += [(f"oracle mIoU, segments named by {rule}", f"oracle_{rule}") for rule in self.oracle]
        title = f"* {len(self.subset)} classes" if self.subset else ""
        lines += ["", f"{'':<42}{'all':>6}  {title}"]
        for text, key in rows:
            if key in s:
                more = f"{_percent(s[key + '_subset'])}" if self.subset else ""
                lines.append(f"{text:<42}{_percent(s[key])}  {more}".rstrip())
        singles = ("pixel_accuracy", "naming_accuracy", "foreground_iou", "background_iou", "distractor_share")
        lines += [f"{SINGLE_TEXTS[key]:<42}{_percent(s[key])}" for key in singles if key in s]
        lines += ["", f"network {_ms(s['predict_ms'])}, then {_ms(s['decide_ms'])} a photo (median, p10-p90)"]
        if self.sweep:
            lines += ["", SWEEP_TITLE]
            for t, confusion in self.sweep:
                more = _percent(self.mean_iou(confusion, True)) if self.subset else ""
                lines.append(f"  {t:>10.4g}  {_percent(self.mean_iou(confusion))}  {more}".rstrip())
        return "\n".join(lines)

    def _means(self, key: str, confusion: np.ndarray) -> dict[str, float]:
        means = {key: self.mean_iou(confusion)}
        return {**means, f"{key}_subset": self.mean_iou(confusion, True)} if self.subset else means


SINGLE_TEXTS = {
    "pixel_accuracy": "pixels right",
    "naming_accuracy": "named right, of foreground found",
    "foreground_iou": "IoU of foreground, whatever its name",
    "background_iou": "IoU of background",
    "distractor_share": "pixels that went to a distractor",
}


def _percent(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{100 * value:6.1f}"


def _ms(quantiles: dict[str, float]) -> str:
    return (
        f"{quantiles['median']:.1f} ms ({quantiles['p10']:.1f}-{quantiles['p90']:.1f})" if quantiles["median"] else "-"
    )


def _plain(value):
    """NaN and infinities as None and text, so that the line is strict JSON."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
