"""best_products by the native CPU library."""

from ctypes import c_int32, c_int64

import numpy as np

from zeroseg.kernels._native import call, pointer
from zeroseg.kernels._threads import threads


def best_products(vectors_nr: np.ndarray, first: np.ndarray, directions_Nr: np.ndarray) -> np.ndarray:
    """Arguments and result of zeroseg.kernels.best_products."""
    vectors_nr, first = np.ascontiguousarray(vectors_nr), np.ascontiguousarray(first)
    directions_Nr = np.ascontiguousarray(directions_Nr)
    best_Nm = np.empty((len(directions_Nr), len(first) - 1), np.int32)
    call(
        "zs_best_products",
        pointer(vectors_nr),
        *map(c_int64, vectors_nr.shape),
        pointer(first),
        c_int64(len(first) - 1),
        pointer(directions_Nr),
        c_int64(len(directions_Nr)),
        pointer(best_Nm),
        c_int32(threads()),
    )
    return best_Nm
