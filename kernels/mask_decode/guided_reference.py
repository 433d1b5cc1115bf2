"""The NumPy truth of mask_decode with a guide: maps that follow the photo's edges.

A guided filter with a colour guide (He, Sun and Tang, Guided Image Filtering, PAMI 2013, equations 14 to 19) whose
coefficients are computed on a coarse grid and applied to the full-size photo (He and Sun, Fast Guided Filter, 2015).
With I the photo in 0..1, p one map, and means over windows of (2 r + 1) x (2 r + 1) cells, cut at the borders:

    a = (cov(I, I) + EPSILON)^-1 cov(I, p),  b = mean(p) - a . mean(I),  q = mean(a) . I + mean(b)

PASSES times, each on the q of the one before. Where a cell of the photo varies more within itself than its
neighbourhood does from cell to cell (netting, fur, grass), the photo's detail would fray the masks; there the detail,
I minus its coarse version, counts less, by the factor

    detail = (between / (between + within + DETAIL_FLOOR))^2

with within the colour's variance inside the cell and between that of the cells' means over 3 x 3 cells.
"""

from typing import NamedTuple

import numpy as np

from zeroseg.kernels.mask_decode.reference import tinted

GRID = 60  # cells along the photo's short side, about
RADIUS = 0.15  # of a window, as a share of the photo's short side
PASSES = 3
EPSILON = 1e-4
DETAIL_FLOOR = 1e-6
_BLOCK_BYTES = 1 << 22


class Grid(NamedTuple):
    """Square cells of the photo; those of the last row and column may be cut."""

    cell: int  # px
    rows: int
    columns: int
    radius: int  # cells


def grid_of(size: tuple[int, int]) -> Grid:
    """The grid of a photo of size (H, W)."""
    short = min(size)
    cell = max(1, (2 * short + GRID) // (2 * GRID))
    return Grid(cell, -(-size[0] // cell), -(-size[1] // cell), max(1, round(RADIUS * short / cell)))


def guided_decode(maps, table, guide, label_dtype="int16", threshold=-np.inf, overlay=None) -> tuple[np.ndarray, ...]:
    """guide: the photo, (H, W, 3) uint8; the rest and what is returned as reference.mask_decode at size (H, W).

    Confidence is the winner's filtered map, cut to [0, 1].
    """
    size, segments = guide.shape[:2], len(maps)
    table = np.arange(segments) if table is None else table
    table = table.astype(np.int64).astype(label_dtype)
    coefficients = coarse_coefficients(maps, guide).astype(np.float32)  # (h, w, 4, K)
    grid = grid_of(size)
    low, high, above = places(size[0], grid.rows, 1 / grid.cell)
    left, right, beyond = places(size[1], grid.columns, 1 / grid.cell)
    above, beyond = above.astype(np.float32)[:, None, None, None], beyond.astype(np.float32)[None, :, None, None]
    label_map, confidence = np.empty(size, label_dtype), np.empty(size, np.float32)
    step = max(1, _BLOCK_BYTES // (16 * segments * size[1]))
    for top in range(0, size[0], step):
        block = slice(top, top + step)
        rows = coefficients[low[block]] * (1 - above[block]) + coefficients[high[block]] * above[block]
        values = rows[:, left] * (1 - beyond) + rows[:, right] * beyond  # (rows, W, 4, K)
        photo = guide[block, :, :, None].astype(np.float32) / np.float32(255)
        q = (values[:, :, :3] * photo).sum(2) + values[:, :, 3]
        label_map[block], confidence[block] = table[q.argmax(2)], q.max(2).clip(0, 1)
    label_map[confidence < threshold] = np.array(-1).astype(label_dtype)
    return (label_map, confidence) if overlay is None else (label_map, confidence, tinted(label_map, overlay))


def coarse_coefficients(maps: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """(h, w, 4, K) float64: of every cell and map the factors of red, green and blue in 0..1, and the constant."""
    grid = grid_of(guide.shape[:2])
    mean, within = cell_moments(guide, grid)
    p = resampled(maps.astype(np.float64).transpose(1, 2, 0), guide.shape[:2], grid)
    guide_mean = box(mean, grid.radius)
    covariance = box(mean[..., :, None] * mean[..., None, :], grid.radius)
    covariance += EPSILON * np.eye(3) - guide_mean[..., :, None] * guide_mean[..., None, :]
    for _ in range(PASSES):
        p_mean = box(p, grid.radius)
        with_p = box(mean[..., None] * p[..., None, :], grid.radius) - guide_mean[..., None] * p_mean[..., None, :]
        a = np.linalg.solve(covariance, with_p)
        b = p_mean - (a * guide_mean[..., None]).sum(2)
        a, b = box(a, grid.radius), box(b, grid.radius)
        p = (a * mean[..., None]).sum(2) + b
    cells_mean = box(mean, 1)
    between = np.maximum(box((mean**2).sum(2), 1) - (cells_mean**2).sum(2), 0)
    detail = (between / (between + within + DETAIL_FLOOR))[..., None] ** 2
    a = a * detail[..., None]
    return np.concatenate([a, (p - (a * mean[..., None]).sum(2))[:, :, None]], 2)


def cell_moments(guide: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Of every cell the mean colour (h, w, 3) and the variance within it, summed over the channels (h, w); 0..1."""
    tops, lefts = np.arange(grid.rows) * grid.cell, np.arange(grid.columns) * grid.cell
    photo = guide.astype(np.int64)
    sums, squares = (
        np.add.reduceat(np.add.reduceat(x, tops, axis=0), lefts, axis=1) for x in (photo, (photo**2).sum(2))
    )
    pixels = np.outer(np.diff(tops, append=guide.shape[0]), np.diff(lefts, append=guide.shape[1]))
    within = squares / pixels - ((sums / pixels[..., None]) ** 2).sum(2)
    return sums / (255 * pixels[..., None]), np.maximum(within, 0) / 255**2


def resampled(maps_hwK: np.ndarray, size: tuple[int, int], grid: Grid) -> np.ndarray:
    """The maps at the centres of the cells, bilinearly, (rows, columns, K)."""
    for axis, (cells, side) in enumerate(((grid.rows, size[0]), (grid.columns, size[1]))):
        source = maps_hwK.shape[axis]
        low, high, above = places(cells, source, grid.cell * source / side)
        above = np.expand_dims(above, (1, 2) if axis == 0 else (0, 2))
        maps_hwK = maps_hwK.take(low, axis) * (1 - above) + maps_hwK.take(high, axis) * above
    return maps_hwK


def places(target: int, source: int, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per target place the two source places around it and the weight of the upper one; half-pixel centres, clamped.

    step: how many source places a target place spans.
    """
    position = np.clip((np.arange(target) + 0.5) * step - 0.5, 0, source - 1)
    low = np.minimum(position.astype(np.int64), max(source - 2, 0))
    return low, np.minimum(low + 1, source - 1), position - low


def box(x: np.ndarray, radius: int) -> np.ndarray:
    """Means over windows of (2 radius + 1)^2 cells of the first two axes, cut at the borders."""
    for axis in (0, 1):
        size = x.shape[axis]
        start = np.maximum(np.arange(size) - radius, 0)
        end = np.minimum(np.arange(size) + radius + 1, size)
        total = np.insert(x.cumsum(axis), 0, 0, axis)
        count = np.expand_dims(end - start, tuple(i for i in range(x.ndim) if i != axis))
        x = (total.take(end, axis) - total.take(start, axis)) / count
    return x
