"""Two protocols that turn a network's outputs into a label for every pixel.

    predict(photo (H, W, 3) uint8 RGB, size (h, w) or None) -> {"segment_maps": (K, h', w'), "segment_scores": (K, N),
                                                               "image_scores": (N)}, all float32

`size` is the network's input size; None: the network's own rule. segment_maps is the product of the soft stage maps
(sums to 1 over K). The scores compare segments and photo with the N labels. A network without segments may return
{"place_scores": (N + M, h', w')} instead, where the last M rows are words that mean background. The same threshold rule
applies to it. As in mmsegmentation, scores are resized to the photo, never labels.

deployment  as zeroseg-infer does: the whole photo at once; maps upsampled to the photo's size (with `edges` following
            the photo's edges); argmax over K; a segment takes its best label if that scores >= threshold, otherwise it
            is background
groupvit    GroupViT's evaluation with sliding windows: `windows`

background rule: "score" compares a label's score with the threshold, as zeroseg-infer does; "probability" compares the
            softmax over all words of logit_scale times the scores, as the evaluations of SCLIP, NACLIP and ClearCLIP do

Both return a reading with label_map(threshold) -> (H, W) int16, -1 background or the label's index, and
oracle_map(mask, classes, rule) -> (H, W) ids: the same segments, each labelled by the ground truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from zeroseg.errors import ZerosegError, check_array
from zeroseg.evaluation.oracle import label_counts, oracle_labels
from zeroseg.evaluation.resize import bilinear
from zeroseg.kernels.mask_decode import dense_decode, mask_decode

Predict = Callable[[np.ndarray, "tuple[int, int] | None"], Mapping[str, np.ndarray]]
PROTOCOLS = ("deployment", "groupvit")
BACKGROUND_RULES = ("score", "probability")


@dataclass(frozen=True)
class ProtocolConfig:
    """The settings of both protocols; the defaults of the second group are GroupViT's.

    protocol: "deployment" or "groupvit". threshold: score below which a pixel is background; on the scale of
    segment_scores or, by background_rule "probability", of softmax probabilities in deployment; of the product of two
    softmax probabilities in groupvit. -inf: no background.

    logit_scale s, by which scores are multiplied before each softmax (CLIP: 100): groupvit, and background_rule
    "probability".

    Of deployment only: edges, whether masks follow the photo's edges (mask_decode with the photo as guide).

    Of groupvit only: short_side_px and max_long_side_px of the resized photo; window_px and stride_px; multiple_px that
    the network's input sides must divide by; top_names, how many names the image-level filter keeps, None to leave it
    out.
    """

    protocol: str = "deployment"
    threshold: float = float("-inf")
    edges: bool = False
    short_side_px: int = 448
    max_long_side_px: int = 2048
    window_px: int = 448
    stride_px: int = 224
    multiple_px: int = 32
    logit_scale: float = 100.0
    top_names: int | None = 5
    background_rule: str = "score"

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise ZerosegError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")
        if self.background_rule not in BACKGROUND_RULES:
            wanted = " or ".join(BACKGROUND_RULES)
            raise ZerosegError(f"background_rule: expected {wanted}, got {self.background_rule!r}")
        for name in ("short_side_px", "max_long_side_px", "window_px", "stride_px", "multiple_px", "logit_scale"):
            if not getattr(self, name) > 0:
                raise ZerosegError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if self.edges and self.protocol != "deployment":
            raise ZerosegError(f"edges: only with the protocol deployment, got {self.protocol}")
        if self.top_names is not None and self.top_names < 1:
            raise ZerosegError(f"top_names: expected at least 1 or None, got {self.top_names}")

    def in_use(self) -> dict:
        """The fields that this protocol looks at, as a dict."""
        values = asdict(self)
        if self.protocol == "groupvit":
            return {k: v for k, v in values.items() if k not in ("background_rule", "edges")}
        used = ("protocol", "threshold", "edges", "background_rule")
        return {k: values[k] for k in used + (("logit_scale",) if self.background_rule == "probability" else ())}


@dataclass(frozen=True)
class SegmentReading:
    """The deployment result of one photo. segments: (H, W) int, 0..K-1. label: (K) int best name. score: (K) of it."""

    segments: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def label_map(self, threshold: float) -> np.ndarray:
        return np.where(self.score >= threshold, self.label, -1).astype(np.int16)[self.segments]

    def oracle_map(self, mask: np.ndarray, classes: int, rule: str) -> np.ndarray:
        return oracle_labels(label_counts(self.segments, mask, len(self.label), classes), rule)[self.segments]

    def score_map(self) -> np.ndarray:
        """(H, W) float32: the best name's score at each pixel, what the threshold is held against."""
        return self.score.astype(np.float32)[self.segments]


@dataclass(frozen=True)
class PlaceReading:
    """The result of a dense map. label: (H, W) int best name, -1 where a background word is best. score: (H, W) of it.
    Without segments there is no oracle.
    """

    label: np.ndarray
    score: np.ndarray

    def label_map(self, threshold: float) -> np.ndarray:
        return np.where(self.score >= threshold, self.label, -1).astype(np.int16)

    def oracle_map(self, mask: np.ndarray, classes: int, rule: str) -> None:
        return None

    def score_map(self) -> np.ndarray:
        return self.score


def read_whole(
    predict: Predict, photo: np.ndarray, names: int, scale: float | None = None, edges: bool = False
) -> SegmentReading | PlaceReading:
    """Deployment: the whole photo in one pass.

    photo: (H, W, 3) uint8 RGB. names: N, how many are asked for. scale: of the background rule "probability", whose
    probabilities take the place of scores in the reading; None for the rule "score". edges: whether segments follow the
    edges of the photo (dense maps never do).
    """
    outputs, size = predict(photo, None), photo.shape[:2]
    if "place_scores" in outputs:
        places = checked(outputs, "place_scores", ("N + M", "h", "w"))
        if len(places) < names:
            raise ValueError(f"place_scores: expected at least {names} maps, one for each name, got {len(places)}")
        label, score = dense_decode(places.astype(np.float32, copy=False), size)  # one map at a time: N can be large
        if scale is not None:
            score = probability_of_best(places, score, scale)
        label[label >= names] = -1
        return PlaceReading(label, score)
    maps, scores = segment_outputs(outputs, names)
    best = scores.max(1)
    if scale is not None:
        best = 1 / np.exp(scale * (scores.astype(np.float64) - best[:, None])).sum(1)
    return SegmentReading(segment_of_pixels(maps, size, photo if edges else None), scores.argmax(1), best)


def probability_of_best(places: np.ndarray, best: np.ndarray, scale: float) -> np.ndarray:
    """(H, W) float32: the largest of softmax(scale * scores) at each pixel, scores being places (N, h, w) resized.

    best: (H, W), the largest score. One map is resized at a time, since N can be large.
    """
    total = np.zeros(best.shape, np.float32)
    for plane in places:
        total += np.exp(scale * (bilinear(plane[None], best.shape)[0] - best))
    return 1 / total


def segment_of_pixels(maps: np.ndarray, size: tuple[int, int], guide: np.ndarray | None = None) -> np.ndarray:
    """(H, W) int16: at each pixel the segment whose map (K, h, w), bilinearly resized to size (H, W), is largest; with
    a guide, the photo, filtered by it.
    """
    return mask_decode(maps.astype(np.float32, copy=False), np.arange(len(maps)), size, guide=guide)[0]


def segment_outputs(outputs: Mapping[str, np.ndarray], names: int) -> tuple[np.ndarray, np.ndarray]:
    """(segment_maps (K, h, w), segment_scores (K, N)) of a network's answer; ValueError where it is malformed."""
    maps = checked(outputs, "segment_maps", ("K", "h", "w"))
    return maps, checked(outputs, "segment_scores", (len(maps), names))


def checked(outputs: Mapping[str, np.ndarray], name: str, shape: tuple[int | str, ...]) -> np.ndarray:
    """outputs[name] as an array of this shape with finite values."""
    if name not in outputs:
        raise ValueError(f"predict: expected an output {name}, got {', '.join(sorted(outputs)) or 'nothing'}")
    array = np.asarray(outputs[name])
    check_array(name, array, shape)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values, got {int((~np.isfinite(array)).sum())} that are not")
    return array
