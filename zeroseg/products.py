"""Products of matrices on the CPU that leave no threads behind in a busy loop."""

import math

import numpy as np

SMALL = 1 << 18  # multiplications of a matrix product up to which OpenBLAS, NumPy's usual BLAS, starts no threads


def products(vectors_ND: np.ndarray, embeddings_KD: np.ndarray) -> np.ndarray:
    """(N, K) float32: the inner products of all rows with each other, computed in parts of at most SMALL
    multiplications.

    After a larger product, OpenBLAS's threads wait for more work in a busy loop. They would slow down the network on
    the next photo: with 1,200 labels and two cores, to half its speed.
    """
    N, K = len(vectors_ND), len(embeddings_KD)
    part = max(1, SMALL // max(1, embeddings_KD.shape[1]))  # inner products in a part
    if N * K <= part:
        return vectors_ND @ embeddings_KD.T
    columns = min(K, max(math.isqrt(part), part // N))
    rows = part // columns
    result_NK = np.empty((N, K), np.result_type(vectors_ND, embeddings_KD))
    for top in range(0, N, rows):
        for left in range(0, K, columns):
            place = slice(top, top + rows), slice(left, left + columns)
            np.matmul(vectors_ND[place[0]], embeddings_KD[place[1]].T, out=result_NK[place])
    return result_NK
