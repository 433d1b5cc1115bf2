"""GroupViT's evaluation protocol with sliding windows (arXiv 2202.11094), for any network with segment maps.

The photo is resized (aspect kept, short side 448, long side at most 2048) and cut into windows of 448 at stride 224,
the last one shifted inwards. In each window, with s the logit scale, g.t the segment scores and z.t the image scores:

1. the product of the soft stage maps is upsampled to the window, THEN argmax over segments: one segment per pixel
2. P_all = softmax over names of s g.t                           (K, N)
3. the top 5 names of softmax(s z.t) are kept; P_top = softmax over those names only of s g.t, 0 elsewhere
4. group score = P_top * P_all; a pixel's name scores are those of its segment
5. thr = min(threshold, max group score of this window); pixels whose best score is < thr get background score 1, so
   that the strongest segment of every window stays foreground

Scores are summed over windows, divided by the number of windows over each pixel and resized to the photo. Then the best
of background and names is taken, as in mmsegmentation (0.x applies a softmax at the end, which does not change the
argmax). For a dataset without background, use threshold -inf: then there is no background column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zeroseg.dense.windows import window_boxes
from zeroseg.evaluation.oracle import label_counts, oracle_labels
from zeroseg.evaluation.protocol import Predict, ProtocolConfig, checked, segment_of_pixels, segment_outputs
from zeroseg.evaluation.resize import fitted_size, nearest, taps


@dataclass(frozen=True)
class Window:
    """One window. box: (y, x, h, w) in the resized photo. segments: (h, w) int. scores: (K, N) group scores."""

    box: tuple[int, int, int, int]
    segments: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class WindowReading:
    """All windows of one photo. resized: (h, w) of the resized photo. size: (H, W) of the photo."""

    windows: tuple[Window, ...]
    resized: tuple[int, int]
    size: tuple[int, int]

    def label_map(self, threshold: float) -> np.ndarray:
        """(H, W) int16: -1 background, else index of the name."""
        if threshold == -math.inf:
            return self._combine([window.scores for window in self.windows]).astype(np.int16)
        scores = [with_background(window.scores, threshold) for window in self.windows]
        return (self._combine(scores) - 1).astype(np.int16)

    def oracle_map(self, mask: np.ndarray, classes: int, rule: str) -> np.ndarray:
        """(H, W) class ids, each segment of each window named after the part of the mask in that window."""
        mask, scores = nearest(mask, self.resized), []
        for window in self.windows:
            y, x, h, w = window.box
            counts = label_counts(window.segments, mask[y : y + h, x : x + w], len(window.scores), classes)
            scores.append(np.eye(classes, dtype=np.float32)[oracle_labels(counts, rule)])
        return self._combine(scores)

    def _combine(self, scores: list[np.ndarray]) -> np.ndarray:
        """Best column per pixel of the photo, (H, W), of one (K, columns) score matrix per window.

        Pixels that lie in the same segment of every window over them have the same scores, so sums and argmax run
        once per such patch; only where bilinear resizing mixes patches are pixels computed one by one.
        """
        patches, members = self._patches()
        mean = np.zeros((len(members), scores[0].shape[1]))
        hits = np.zeros((len(members), 1))
        for segment, matrix in zip(members.T, scores, strict=True):
            inside = segment >= 0
            mean[inside] += matrix[segment[inside]]
            hits[inside] += 1
        mean /= hits
        (top, bottom, fy), (left, right, fx) = (taps(*sides) for sides in zip(self.resized, self.size, strict=True))
        fy, fx = fy[:, None], fx[None]
        corners = [patches[y[:, None], x] for y in (top, bottom) for x in (left, right)]
        answer = mean.argmax(1)[corners[0]]
        mixed = np.logical_or.reduce([corner != corners[0] for corner in corners])
        weights = [(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx]
        blend = sum(
            weight[mixed][:, None] * mean[corner[mixed]] for weight, corner in zip(weights, corners, strict=True)
        )
        answer[mixed] = blend.argmax(1)
        return answer

    def _patches(self) -> tuple[np.ndarray, np.ndarray]:
        """Patch of every pixel of the resized photo (h, w); each patch's segment in each window (P, windows) or -1."""
        patch, members = np.zeros(self.resized, np.int64), np.empty((1, 0), np.int64)
        for window in self.windows:
            y, x, h, w = window.box
            segment = np.full(self.resized, -1, np.int64)
            segment[y : y + h, x : x + w] = window.segments
            count = len(window.scores) + 1
            pairs, inverse = np.unique(patch * count + segment + 1, return_inverse=True)
            patch = inverse.reshape(self.resized)
            members = np.concatenate([members[pairs // count], (pairs % count - 1)[:, None]], 1)
        return patch, members


def read_windows(predict: Predict, photo: np.ndarray, names: int, config: ProtocolConfig) -> WindowReading:
    """GroupViT's protocol on photo (H, W, 3) uint8 RGB; names: N, how many are asked for."""
    size = photo.shape[:2]
    resized = fitted_size(size, config.short_side_px, config.max_long_side_px)
    picture = np.asarray(Image.fromarray(photo).resize(resized[::-1], Image.Resampling.BILINEAR))
    windows = []
    for box in window_boxes(resized, config.window_px, config.stride_px):
        y, x, h, w = box
        input_size = tuple(math.ceil(side / config.multiple_px) * config.multiple_px for side in (h, w))
        outputs = predict(np.ascontiguousarray(picture[y : y + h, x : x + w]), input_size)
        maps, scores = segment_outputs(outputs, names)
        image_scores = checked(outputs, "image_scores", (names,))
        segments = segment_of_pixels(maps, (h, w))
        windows.append(Window(box, segments, group_scores(scores, image_scores, config.logit_scale, config.top_names)))
    return WindowReading(tuple(windows), resized, size)


def group_scores(scores: np.ndarray, image_scores: np.ndarray, scale: float, top_names: int | None) -> np.ndarray:
    """P_top * P_all (K, N) in [0, 1], P_all alone for top_names None. scores: (K, N) g.t; image_scores: (N) z.t."""
    logits = scale * scores.astype(np.float64)
    p_all = softmax(logits, axis=1)
    if top_names is None:
        return p_all
    kept = np.argsort(-image_scores, kind="stable")[:top_names]
    p_top = np.zeros_like(p_all)
    p_top[:, kept] = softmax(logits[:, kept], axis=1)
    return p_top * p_all


def with_background(scores: np.ndarray, threshold: float) -> np.ndarray:
    """(K, 1 + N): a background column first, 1 where a segment's best score < min(threshold, max of the window)."""
    best = scores.max(1)
    background = (best < min(threshold, best.max())).astype(scores.dtype)
    return np.concatenate([background[:, None], scores], 1)


def softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    """Softmax along an axis."""
    e = np.exp(logits - logits.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)
