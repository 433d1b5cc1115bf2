"""Steady labels in a moving picture: the scores of segments, carried from frame to frame.

A single frame's scores jitter around the threshold, and the picture flickers. The network's segments have no identity
across frames, so old scores are carried by overlap: with the soft maps m (K, places) of this frame and m' of the last,

    W_kj = sum_p m_k(p) m'_j(p) / sum_jp m_k(p) m'_j(p)          where segment k was in the last frame
    S_k  = (1 - a) scores_k + a sum_j W_kj S'_j                  a = exp(-dt / tau)

so that tau is a time in seconds, whatever the frame rate. New labels, another size or a gap start afresh.
"""

import math
import time
from collections.abc import Mapping

import numpy as np

from zeroseg.runtime.base import Runner, TensorSpec

GAP = 5.0  # in units of tau: after so long a pause nothing is carried


class SmoothingRunner(Runner):
    """A runner whose segment_scores are smoothed over its successive calls; for one stream of frames.

    inner   the runner that does the work.
    tau_s   the time constant; 0 changes nothing.
    now     the time in seconds of the frame that the next call is for; None takes the clock.
    """

    def __init__(self, inner: Runner, tau_s: float):
        self._inner, self.tau_s, self.now = inner, tau_s, None
        self.backend = inner.backend
        self._past: tuple | None = None  # (time, label embeddings, maps, smoothed scores)

    def inputs(self) -> dict[str, TensorSpec]:
        return self._inner.inputs()

    @property
    def largest_batch(self) -> int | None:
        return self._inner.largest_batch

    def _run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        output = self._inner.run(feed)
        if self.tau_s <= 0 or "segment_maps" not in output:  # without segments (open_clip) there are none to follow
            return output
        now = time.monotonic() if self.now is None else self.now
        maps, scores, labels = output["segment_maps"], output["segment_scores"], feed["label_embeddings"]
        if self._past is not None:
            then, old_labels, old_maps, old_scores = self._past
            gap_s = now - then
            same = labels is old_labels or np.array_equal(labels, old_labels)
            if same and old_maps.shape == maps.shape and 0 <= gap_s < GAP * self.tau_s:
                scores = carry_scores(scores, maps, old_scores, old_maps, math.exp(-gap_s / self.tau_s))
        self._past = now, labels, maps, scores
        return {**output, "segment_scores": scores}


def carry_scores(
    scores_BKN: np.ndarray, maps_BKhw: np.ndarray, old_scores_BKN: np.ndarray, old_maps_BKhw: np.ndarray, keep: float
) -> np.ndarray:
    """The formula above: (B, K, N) float32; keep is a, in [0, 1]."""
    flat = maps_BKhw.reshape(*maps_BKhw.shape[:2], -1)
    old = old_maps_BKhw.reshape(flat.shape)
    overlap = flat @ old.transpose(0, 2, 1)  # (B, K, K)
    share = overlap / np.maximum(overlap.sum(2, keepdims=True), 1e-12)
    carried = share @ old_scores_BKN
    return ((1 - keep) * scores_BKN + keep * carried).astype(np.float32)
