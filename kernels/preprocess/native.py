"""preprocess by the native CPU library."""

from ctypes import c_int32, c_int64, c_void_p

import numpy as np

from zeroseg.kernels._native import call, pointer
from zeroseg.kernels._threads import threads


def preprocess(
    image: np.ndarray, size: tuple[int, int], mean: np.ndarray, std: np.ndarray, dtype: str = "float32"
) -> np.ndarray:
    """image (H, W, 3) uint8 of any strides, size (h, w), mean and std (3,) float32 -> (3, h, w) of that dtype."""
    scale, offset = 1 / std, -mean / std
    out = np.empty((3, *size), dtype)
    call(
        "zs_preprocess",
        c_void_p(image.ctypes.data),
        *map(c_int64, image.shape[:2]),
        *map(c_int64, image.strides),
        pointer(scale),
        pointer(offset),
        *map(c_int64, size),
        c_int32(out.itemsize == 2),
        pointer(out),
        c_int32(threads()),
    )
    return out
