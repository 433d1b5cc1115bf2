"""mask_decode by the native CPU library."""

from ctypes import Structure, byref, c_float, c_int32, c_int64, c_uint32, c_void_p

import numpy as np

from zeroseg.kernels._native import call, pointer
from zeroseg.kernels._threads import threads


class _Overlay(Structure):
    _fields_ = [
        ("image", c_void_p),
        ("colors", c_void_p),
        ("color_count", c_int64),
        ("alpha", c_uint32),
        ("out", c_void_p),
    ]


def mask_decode(maps, table, size, label_dtype="int16", threshold=-np.inf, overlay=None) -> tuple[np.ndarray, ...]:
    """Arguments and results of reference.mask_decode."""
    maps = np.ascontiguousarray(maps)
    label_map, confidence = np.empty(size, label_dtype), np.empty(size, np.float32)
    if table is not None:
        table = np.ascontiguousarray(table, np.int32)
    _kept, argument, picture = overlay_argument(overlay, size)
    call(
        "zs_mask_decode",
        pointer(maps),
        *map(c_int64, maps.shape),
        None if table is None else pointer(table),
        c_float(threshold),
        *map(c_int64, size),
        c_int32(label_map.itemsize),
        pointer(label_map),
        pointer(confidence),
        argument,
        c_int32(threads()),
    )
    return label_map, confidence, *picture


def overlay_argument(overlay, size: tuple[int, int]) -> tuple[tuple, object, tuple[np.ndarray, ...]]:
    """Of an Overlay or None: arrays to keep alive during the call, the argument, and the picture to be filled."""
    if overlay is None:
        return (), None, ()
    image, colors = np.ascontiguousarray(overlay.image), np.ascontiguousarray(overlay.colors)
    picture = np.empty((*size, 3), np.uint8)
    argument = _Overlay(pointer(image), pointer(colors), len(colors), overlay.alpha_255, pointer(picture))
    return (image, colors), byref(argument), (picture,)
