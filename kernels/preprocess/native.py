"""preprocess by the native CPU library."""

from ctypes import c_int32, c_int64

import numpy as np

from zeroseg.kernels._native import call, pointer
from zeroseg.kernels._threads import threads


def preprocess(image: np.ndarray, size: tuple[int, int], mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """image (H, W, 3) uint8, size (h, w), mean and std (3,) float32 -> (3, h, w) float32."""
    image = np.ascontiguousarray(image)
    scale, offset = 1 / std, -mean / std
    out = np.empty((3, *size), np.float32)
    call("zs_preprocess", pointer(image), *map(c_int64, image.shape[:2]), pointer(scale), pointer(offset),
         *map(c_int64, size), pointer(out), c_int32(threads()))
    return out
