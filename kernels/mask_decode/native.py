"""mask_decode by the native CPU library."""

from ctypes import c_int32, c_int64

import numpy as np

from zeroseg.kernels._native import call, pointer
from zeroseg.kernels._threads import threads


def mask_decode(maps: np.ndarray, table: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """maps (K, h, w) float32, table (K,) int16, size (H, W) -> (H, W) int16 labels, (H, W) float32 confidence."""
    maps, table = np.ascontiguousarray(maps), np.ascontiguousarray(table)
    label_map, confidence = np.empty(size, np.int16), np.empty(size, np.float32)
    call("zs_mask_decode", pointer(maps), *map(c_int64, maps.shape), pointer(table), *map(c_int64, size),
         pointer(label_map), pointer(confidence), c_int32(threads()))
    return label_map, confidence
