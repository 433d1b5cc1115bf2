"""Masks as COCO's compressed RLE, byte for byte as pycocotools writes it, without pycocotools.

A mask is read column by column as runs of 0, 1, 0, ... starting with zeros. From the third run on, the difference to
the run two before is stored, because neighbouring columns have similar runs. Each number is split into groups of 5
bits, low bits first. Bit 5 is set when more groups follow, and bit 4 of the last group is the sign. Adding 48 makes
each group a character.
"""

import numpy as np

_COUNTED_AT_ONCE = 1 << 16  # pixels
_GROUPS = 7  # 5-bit groups that hold any difference of two 32-bit run lengths


def encode_rle(mask: np.ndarray) -> dict:
    """mask (H, W), any dtype, nonzero inside -> {"size": [H, W], "counts": str}."""
    if mask.ndim != 2:
        raise ValueError(f"mask: expected (H, W), got {mask.shape}")
    down = np.ascontiguousarray((mask != 0).T).ravel()
    edges = np.flatnonzero(down[1:] != down[:-1]) + 1
    bounds = np.concatenate(([0] if not down.size or not down[0] else [0, 0], edges, [down.size]))
    return {"size": list(mask.shape), "counts": _to_text(np.diff(bounds))}


def encode_label_map(label_map: np.ndarray) -> dict[int, dict]:
    """label_map (H, W) integer, negative outside -> the run lengths of every label in it, in one pass over the map."""
    height, width = label_map.shape
    down = np.ascontiguousarray(label_map.T).ravel()
    starts = np.concatenate(([0], np.flatnonzero(down[1:] != down[:-1]) + 1))
    ends = np.append(starts[1:], down.size)
    found = {}
    for label in np.unique(down[starts]):
        if label < 0:
            continue
        runs = down[starts] == label
        bounds = np.column_stack((starts[runs], ends[runs])).ravel()
        bounds = np.concatenate(([0], bounds, [down.size] if bounds[-1] < down.size else []))
        found[int(label)] = {"size": [height, width], "counts": _to_text(np.diff(bounds).astype(np.int64))}
    return found


def decode_rle(rle: dict) -> np.ndarray:
    """The inverse of encode_rle: (H, W) uint8 of 0 and 1. Raises ValueError when the counts do not fit the size."""
    height, width = rle["size"]
    text = rle["counts"]
    runs, value, shift = [], 0, 0
    for code in text.encode("ascii") if isinstance(text, str) else text:
        value |= ((code - 48) & 31) << shift
        shift += 5
        if not (code - 48) & 32:
            value -= (1 << shift) if value >> (shift - 1) & 1 else 0
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value, shift = 0, 0
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"rle: runs add up to {sum(runs)}, expected {height} x {width} = {height * width}")
    return np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(width, height).T


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, width, height) in pixels of the nonzero part of mask (H, W); zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def label_boxes(label_map: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Area and box of every label of a label map, in one pass over it.

    label_map (H, W) uint8 of 0 ... count - 1, count at most 64; returns (count,) int64 areas in pixels and (count, 4)
    int64 boxes (x, y, width, height) as bounding_box gives them.
    """
    kind = next(kind for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if count <= 8 * kind().itemsize)
    bit = (1 << np.arange(count, dtype=np.uint64)).astype(kind)
    areas, boxes = np.zeros(count, np.int64), np.zeros((count, 4), np.int64)
    step = max(1, _COUNTED_AT_ONCE // max(1, label_map.shape[1]))
    for top in range(0, len(label_map), step):  # in strips: bincount widens its input to 64 bits
        areas += np.bincount(label_map[top : top + step].ravel(), minlength=count)
    bits = bit[label_map]
    rows, columns = np.bitwise_or.reduce(bits, 1), np.bitwise_or.reduce(bits, 0)
    for label in np.flatnonzero(areas):
        x, y = np.flatnonzero(columns & bit[label]), np.flatnonzero(rows & bit[label])
        boxes[label] = x[0], y[0], x[-1] - x[0] + 1, y[-1] - y[0] + 1
    return areas, boxes


def _to_text(runs: np.ndarray) -> str:
    values = runs.astype(np.int64)
    values[3:] -= runs[1:-2]
    groups = np.zeros((len(values), _GROUPS), np.uint8)
    used = np.zeros((len(values), _GROUPS), bool)
    active = np.ones(len(values), bool)
    for g in range(_GROUPS):
        low = values & 31
        values = values >> 5  # arithmetic: keeps the sign
        more = np.where(low & 16, values != -1, values != 0)
        groups[:, g] = (low | (more << 5)) + 48
        used[:, g] = active
        active = active & more
    return groups[used].tobytes().decode("ascii")
