"""Where the masks' borders are: the band in which mIoU says how well they are followed.

A trimap's band (Kohli, Ladicky and Torr, Robust Higher Order Potentials, 2009): pixels within a few pixels of a place
where the mask changes its value. 255 ("do not count") is a value too, so that VOC's unlabelled rims count as borders
themselves and the pixels on both sides of a rim are in the band.
"""

from __future__ import annotations

import numpy as np

REACH_PX = 8


def near_borders(truth: np.ndarray, reach_px: int = REACH_PX) -> np.ndarray:
    """Pixels at most reach_px away from a border, by the Euclidean distance to the nearest border pixel.

    truth: (H, W) integers. A border pixel is one whose neighbour above, below, left or right has another value.
    Returns (H, W) bool.
    """
    height, width = truth.shape
    border = np.zeros((height, width), bool)
    for one, two in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        changes = truth[one] != truth[two]
        border[one] |= changes
        border[two] |= changes
    before = np.zeros((height, width + 1), np.int32)  # border pixels left of a column
    border.cumsum(1, out=before[:, 1:])
    band, columns = np.zeros((height, width), bool), np.arange(width)
    for down in range(-min(reach_px, height - 1), min(reach_px, height - 1) + 1):
        across = int((reach_px**2 - down**2) ** 0.5)
        end, start = np.minimum(columns + across + 1, width), np.maximum(columns - across, 0)
        here = before[max(down, 0) : height + min(down, 0)]
        band[max(-down, 0) : height - max(down, 0)] |= here[:, end] > here[:, start]
    return band
