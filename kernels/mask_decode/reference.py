"""The NumPy reference of mask_decode.

Bilinear interpolation is separable: rows of the maps are blended two by two, then every blended row is multiplied by
a (w, W) matrix that holds two weights per column of the photo. Blocks of rows keep the memory beside the outputs
small however large the photo is, and the block in cache for the argmax.
"""

import numpy as np

_BLOCK_BYTES = 1 << 20  # of interpolated maps: about a core's share of the second-level cache
_PRODUCT_SIZE = 1 << 18  # multiply-adds per matrix product: above it BLAS wakes threads, which costs more than the sum


def mask_decode(maps, table, size, label_dtype="int16", threshold=-np.inf, overlay=None) -> tuple[np.ndarray, ...]:
    """maps (K, h, w) float32, table (K,) int32 or None for labels 0 ... K - 1, size (H, W), overlay an Overlay or None.

    Returns labels (H, W), confidence (H, W) float32 and, with an overlay, the picture (H, W, 3) uint8. Where confidence
    is below threshold the label is -1, which unsigned dtypes store as their largest value.
    """
    segments, rows, columns = maps.shape
    height, width = size
    low, high, fraction = _neighbours(rows, height)
    weights_wW = _column_weights(columns, width)
    maps_hKw = np.ascontiguousarray(maps.transpose(1, 0, 2))
    table = np.arange(segments) if table is None else table
    table = table.astype(np.int64).astype(label_dtype)
    label_map = np.empty(size, label_dtype)
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
        winner[best < threshold] = np.array(-1).astype(label_dtype)
    return (label_map, confidence) if overlay is None else (label_map, confidence, tinted(label_map, overlay))


def tinted(label_map: np.ndarray, overlay) -> np.ndarray:
    """round((image (255 - a) + color a) / 255), in integers."""
    tinted = (label_map >= 0) & (label_map < len(overlay.colors))
    alpha, picture = overlay.alpha_255, overlay.image.copy()
    colors = overlay.colors[label_map[tinted]].astype(np.int32)
    picture[tinted] = (picture[tinted] * np.int32(255 - alpha) + colors * alpha + 127) // 255
    return picture


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
