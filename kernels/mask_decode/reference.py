"""The NumPy truth of mask_decode.

Bilinear interpolation is separable: map_k at full size = R map_k C^T, where R (H, h) and C (W, w) hold two weights
a row. Both products run as small matrix products over blocks of rows, so that beside the outputs only one block is
in memory however large the photo is, and that block stays in cache for the argmax.
"""

import numpy as np

_BLOCK_BYTES = 1 << 20  # of interpolated maps: about a core's share of the second-level cache


def mask_decode(maps: np.ndarray, table: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """maps (K, h, w) float32, table (K,) int16, size (H, W) -> (H, W) int16 labels, (H, W) float32 confidence."""
    segments, rows, columns = maps.shape
    height, width = size
    row_weights = bilinear_weights(rows, height)  # (H, h)
    column_weights = np.ascontiguousarray(bilinear_weights(columns, width).T)  # (w, W)
    maps_hKw = np.ascontiguousarray(maps.transpose(1, 0, 2)).reshape(rows, segments * columns)
    label_map = np.empty(size, np.int16)
    confidence = np.empty(size, np.float32)
    step = max(1, min(height, _BLOCK_BYTES // (4 * segments * width)))
    buffer = np.empty((segments * step, width), np.float32)  # one for all blocks: fresh pages cost more than the sums
    for top in range(0, height, step):
        count = min(step, height - top)
        block_rKw = row_weights[top : top + count] @ maps_hKw
        block_Krw = np.ascontiguousarray(block_rKw.reshape(count, segments, columns).transpose(1, 0, 2))
        block_KrW = buffer[: segments * count]
        np.matmul(block_Krw.reshape(segments * count, columns), column_weights, out=block_KrW)
        block_KrW = block_KrW.reshape(segments, count, width)
        best, winner = confidence[top : top + count], label_map[top : top + count]
        best[:] = block_KrW[0]
        winner[:] = table[0]
        for k in range(1, segments):
            np.copyto(winner, table[k], where=block_KrW[k] > best)
            np.maximum(best, block_KrW[k], out=best)
    return label_map, confidence


def bilinear_weights(source: int, target: int) -> np.ndarray:
    """The (target, source) float32 matrix that resamples an axis: half-pixel centres, clamped, no antialiasing."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = np.minimum(position.astype(np.int64), max(source - 2, 0))
    fraction = (position - low).astype(np.float32)
    weights = np.zeros((target, source), np.float32)
    index = np.arange(target)
    weights[index, low] = 1 - fraction
    if source > 1:
        weights[index, low + 1] = fraction
    return weights
