"""The NumPy truth of mask_decode.

Bilinear interpolation is separable: rows of the maps are blended two by two, then every blended row is multiplied by
a (w, W) matrix that holds two weights per column of the photo. Blocks of rows keep the memory beside the outputs
small however large the photo is, and the block in cache for the argmax.
"""

import numpy as np

_BLOCK_BYTES = 1 << 20  # of interpolated maps: about a core's share of the second-level cache
_PRODUCT_SIZE = 1 << 18  # multiply-adds per matrix product: above it BLAS wakes threads, which costs more than the sum


def mask_decode(maps: np.ndarray, table: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """maps (K, h, w) float32, table (K,) int16, size (H, W) -> (H, W) int16 labels, (H, W) float32 confidence."""
    segments, rows, columns = maps.shape
    height, width = size
    low, high, fraction = _neighbours(rows, height)
    weights_wW = _column_weights(columns, width)
    maps_hKw = np.ascontiguousarray(maps.transpose(1, 0, 2))
    label_map = np.empty(size, np.int16)
    confidence = np.empty(size, np.float32)
    step = max(1, min(height, _BLOCK_BYTES // (4 * segments * width)))
    span = max(1, _PRODUCT_SIZE // (segments * columns))
    buffer = np.empty((step, segments, width), np.float32)  # one for all blocks: fresh pages cost more than the sums
    for top in range(0, height, step):
        block = slice(top, min(top + step, height))
        t = fraction[block, None, None]
        block_rKw = maps_hKw[low[block]] * (1 - t) + maps_hKw[high[block]] * t
        block_rKW = buffer[: len(block_rKw)]
        for left in range(0, width, span):
            np.matmul(block_rKw, weights_wW[:, left : left + span], out=block_rKW[:, :, left : left + span])
        best, winner = confidence[block], label_map[block]
        best[:] = block_rKW[:, 0]
        winner[:] = table[0]
        for k in range(1, segments):
            np.copyto(winner, table[k], where=block_rKW[:, k] > best)
            np.maximum(best, block_rKW[:, k], out=best)
    return label_map, confidence


def _neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per target place the two source places around it and the weight of the upper one; half-pixel centres, clamped."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = np.minimum(position.astype(np.int64), max(source - 2, 0))
    return low, np.minimum(low + 1, source - 1), (position - low).astype(np.float32)


def _column_weights(source: int, target: int) -> np.ndarray:
    low, high, fraction = _neighbours(source, target)
    weights = np.zeros((source, target), np.float32)
    index = np.arange(target)
    weights[high, index] = fraction
    weights[low, index] += 1 - fraction  # one and the same place where the map has a single column
    return weights
