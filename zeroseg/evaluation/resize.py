"""Bilinear resizing of score maps: pixel centres at half integers, edges repeated, no antialiasing.

The same map as torch's interpolate(mode="bilinear", align_corners=False): output pixel i reads the input at
(i + 0.5) * in / out - 0.5, clamped to the first and last pixel.
"""

from __future__ import annotations

import math

import numpy as np


def bilinear(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (K, h, w) float maps to (K, H, W) float32, size = (H, W)."""
    y0, y1, fy = taps(maps.shape[1], size[0])
    x0, x1, fx = taps(maps.shape[2], size[1])
    maps = maps.astype(np.float32, copy=False)
    rows = maps[:, y0] * (1 - fy)[:, None] + maps[:, y1] * fy[:, None]
    return rows[:, :, x0] * (1 - fx) + rows[:, :, x1] * fx


def nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an (h, w) map of ids to (H, W) by the pixel under each output pixel's centre."""
    y = ((np.arange(size[0]) + 0.5) * ids.shape[0] / size[0]).astype(np.int64)
    x = ((np.arange(size[1]) + 0.5) * ids.shape[1] / size[1]).astype(np.int64)
    return ids[y[:, None], x[None]]


def fitted_size(size: tuple[int, int], short_side: int, max_long_side: int) -> tuple[int, int]:
    """(H, W) scaled with its aspect to the largest size within short_side and max_long_side."""
    scale = min(short_side / min(size), max_long_side / max(size))
    return max(1, math.floor(size[0] * scale + 0.5)), max(1, math.floor(size[1] * scale + 0.5))


def taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, high, fraction), each (target): output i is (1 - fraction) * input[low] + fraction * input[high]."""
    place = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = np.floor(place).astype(np.int64)
    return low, np.minimum(low + 1, source - 1), (place - low).astype(np.float32)
