"""The reference of best_products: NumPy, in float64, which holds these integers exactly; in blocks, to save memory."""

import numpy as np

_BLOCK = 1 << 14  # groups


def best_products(vectors_nr: np.ndarray, first: np.ndarray, directions_Nr: np.ndarray) -> np.ndarray:
    """Arguments and result of zeroseg.kernels.best_products."""
    groups, directions_Nr = len(first) - 1, directions_Nr.astype(np.float64)
    best_Nm = np.empty((len(directions_Nr), groups), np.int32)
    for start in range(0, groups, _BLOCK):
        stop = min(start + _BLOCK, groups)
        a, b = first[start], first[stop]
        products_Nn = directions_Nr @ vectors_nr[a:b].astype(np.float64).T
        best_Nm[:, start:stop] = np.maximum.reduceat(products_Nn, first[start:stop] - a, axis=1)
    return best_Nm
