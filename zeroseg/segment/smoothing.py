"""Smooth labels over time: average the embeddings of segments from frame to frame.

The scores of single frames vary around the threshold, so the labels flicker. The network's segments have no identity
across frames, so the embeddings of the last frame are matched by overlap. With the soft maps m (K, patches) of this
frame and m' of the last,

    W_kj = sum_p m_k(p) m'_j(p) / sum_jp m_k(p) m'_j(p)              the position of segment k in the last frame
    E_k  = (1 - a) e_k + a sum_j W_kj E'_j                           a = exp(-dt / tau)

tau is a time in seconds, at any frame rate. Labels can change at any time, because they are not involved. A change of
size or a gap restarts the smoothing.
"""

import math
from dataclasses import replace

import numpy as np

from zeroseg.products import products
from zeroseg.segment.encoded import Encoded, Segments

GAP = 5.0  # in units of tau; a longer pause restarts the smoothing


def smooth(segments: Encoded, time_s: float, past: tuple[float, Encoded] | None, tau_s: float) -> Encoded:
    """The segments of a frame at time_s, with the embeddings of the formula above.

    past   (time in seconds, smoothed segments) of the frame before, None for the first.
    tau_s  the time constant; 0: no smoothing. Frames of a dense network, which has no segments, pass unchanged.
    """
    if past is None or tau_s <= 0 or not isinstance(segments, Segments):
        return segments
    then_s, before = past
    gap_s = time_s - then_s
    if before.maps.shape != segments.maps.shape or not 0 <= gap_s < GAP * tau_s:
        return segments
    carried = carry(segments.embeddings, segments.maps, before.embeddings, before.maps, math.exp(-gap_s / tau_s))
    return replace(segments, embeddings=carried)


def carry(
    values_KD: np.ndarray, maps_Khw: np.ndarray, old_values_KD: np.ndarray, old_maps_Khw: np.ndarray, keep: float
) -> np.ndarray:
    """The formula above: (K, D) float32; keep is a, in [0, 1]."""
    overlap = products(maps_Khw.reshape(len(maps_Khw), -1), old_maps_Khw.reshape(len(old_maps_Khw), -1))  # (K, K)
    share = overlap / np.maximum(overlap.sum(1, keepdims=True), 1e-12)
    return ((1 - keep) * values_KD + keep * products(share, old_values_KD.T)).astype(np.float32)
