"""tint by the native CPU library."""

from ctypes import c_int32, c_int64, c_uint32

import numpy as np

from zeroseg.kernels._native import call, pointer
from zeroseg.kernels._threads import threads


def tint(image: np.ndarray, label_map: np.ndarray, colors: np.ndarray, alpha_255: int, outline_px: int) -> np.ndarray:
    """Arguments and result of zeroseg.kernels.tint, alpha in [0, 255]."""
    image, label_map = np.ascontiguousarray(image), np.ascontiguousarray(label_map)
    colors = np.ascontiguousarray(colors)
    out = np.empty(image.shape, np.uint8)
    call(
        "zs_tint",
        pointer(image),
        pointer(label_map),
        pointer(colors),
        c_int64(len(colors)),
        c_uint32(alpha_255),
        c_int64(outline_px),
        *map(c_int64, label_map.shape),
        pointer(out),
        c_int32(threads()),
    )
    return out
