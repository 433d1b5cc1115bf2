"""The coarse half of guided decoding in torch, on any device: guided_reference.coarse_coefficients for a batch.

A few dozen operations on some thousand cells, in float64; what is done per pixel is left to the kernels.
"""

import torch
from torch import Tensor

from zeroseg.kernels.mask_decode.guided_reference import DETAIL_FLOOR, EPSILON, PASSES, Grid, grid_of


def coarse_coefficients(maps: Tensor, guide: Tensor) -> Tensor:
    """maps (B, K, h, w) float32, guide (B, H, W, 3) uint8 -> (B, rows, columns, 4, K) float32 on their device: of every
    cell and map the factors of the three channels in 0..1, and the constant.
    """
    size = tuple(guide.shape[1:3])
    grid = grid_of(size)
    mean, within = _cell_moments(guide, grid)
    p = _resampled(maps.double().permute(0, 2, 3, 1), size, grid)
    guide_mean = _box(mean, grid.radius)
    covariance = _box(mean[..., :, None] * mean[..., None, :], grid.radius)
    covariance = covariance - guide_mean[..., :, None] * guide_mean[..., None, :]
    covariance = covariance + EPSILON * torch.eye(3, dtype=torch.float64, device=maps.device)
    for _ in range(PASSES):
        p_mean = _box(p, grid.radius)
        with_p = _box(mean[..., None] * p[..., None, :], grid.radius) - guide_mean[..., None] * p_mean[..., None, :]
        a = torch.linalg.solve(covariance, with_p)
        b = p_mean - (a * guide_mean[..., None]).sum(-2)
        a, b = _box(a, grid.radius), _box(b, grid.radius)
        p = (a * mean[..., None]).sum(-2) + b
    between = (_box((mean**2).sum(-1), 1) - (_box(mean, 1) ** 2).sum(-1)).clamp(min=0)
    detail = (between / (between + within + DETAIL_FLOOR)) ** 2
    a = a * detail[..., None, None]
    return torch.cat([a, (p - (a * mean[..., None]).sum(-2))[..., None, :]], -2).float()


def _cell_moments(guide: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    batch, height, width, _ = guide.shape
    down, across = grid.rows * grid.cell - height, grid.columns * grid.cell - width
    photo = torch.nn.functional.pad(guide.to(torch.int32), (0, 0, 0, across, 0, down))
    cells = photo.view(batch, grid.rows, grid.cell, grid.columns, grid.cell, 3)
    sums, squares = cells.sum((2, 4)), (cells**2).sum((2, 4, 5))
    high, wide = (torch.full((n,), grid.cell, device=guide.device) for n in (grid.rows, grid.columns))
    high[-1] -= down
    wide[-1] -= across
    pixels = (high[:, None] * wide).double()
    within = squares / pixels - ((sums / pixels[..., None]) ** 2).sum(-1)
    return sums / (255 * pixels[..., None]), within.clamp(min=0) / 255**2


def _resampled(maps_BhwK: Tensor, size: tuple[int, int], grid: Grid) -> Tensor:
    for axis, cells, side in ((1, grid.rows, size[0]), (2, grid.columns, size[1])):
        source = maps_BhwK.shape[axis]
        places = torch.arange(cells, dtype=torch.float64, device=maps_BhwK.device)
        places = ((places + 0.5) * (grid.cell * source / side) - 0.5).clamp(0, source - 1)
        low = places.long().clamp(max=max(source - 2, 0))
        above = (places - low).view([-1 if i == axis else 1 for i in range(4)])
        high = (low + 1).clamp(max=source - 1)
        maps_BhwK = maps_BhwK.index_select(axis, low) * (1 - above) + maps_BhwK.index_select(axis, high) * above
    return maps_BhwK


def _box(x: Tensor, radius: int) -> Tensor:
    for axis in (1, 2):
        size = x.shape[axis]
        place = torch.arange(size, device=x.device)
        start, end = (place - radius).clamp(min=0), (place + radius + 1).clamp(max=size)
        zero = torch.zeros_like(x.narrow(axis, 0, 1))
        total = torch.cat([zero, x.cumsum(axis)], axis)
        count = (end - start).view([-1 if i == axis else 1 for i in range(x.ndim)])
        x = (total.index_select(axis, end) - total.index_select(axis, start)) / count
    return x
