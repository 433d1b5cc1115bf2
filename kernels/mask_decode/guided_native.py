"""mask_decode with a guide by the native CPU library."""

from ctypes import Structure, byref, c_double, c_float, c_int32, c_int64

import numpy as np

from zeroseg.kernels._native import call, pointer
from zeroseg.kernels._threads import threads
from zeroseg.kernels.mask_decode.guided_reference import DETAIL_FLOOR, EPSILON, PASSES, grid_of
from zeroseg.kernels.mask_decode.native import overlay_argument


class _Settings(Structure):
    _fields_ = [
        ("cell", c_int64),
        ("radius", c_int64),
        ("passes", c_int32),
        ("epsilon", c_double),
        ("detail_floor", c_double),
    ]


def guided_decode(maps, table, guide, label_dtype="int16", threshold=-np.inf, overlay=None) -> tuple[np.ndarray, ...]:
    """Arguments and results of guided_reference.guided_decode."""
    maps, guide = np.ascontiguousarray(maps), np.ascontiguousarray(guide)
    size = guide.shape[:2]
    label_map, confidence = np.empty(size, label_dtype), np.empty(size, np.float32)
    if table is not None:
        table = np.ascontiguousarray(table, np.int32)
    grid = grid_of(size)
    _kept, argument, picture = overlay_argument(overlay, size)
    call(
        "zs_guided_decode",
        pointer(maps),
        *map(c_int64, maps.shape),
        None if table is None else pointer(table),
        c_float(threshold),
        pointer(guide),
        *map(c_int64, size),
        byref(_Settings(grid.cell, grid.radius, PASSES, EPSILON, DETAIL_FLOOR)),
        c_int32(label_map.itemsize),
        pointer(label_map),
        pointer(confidence),
        argument,
        c_int32(threads()),
    )
    return label_map, confidence, *picture
