"""The type of an attention variant of a tower's last block (readings.py has them all). B, H, L, d as there."""

from collections.abc import Callable
from typing import NamedTuple

import torch

NEVER = -1e4  # for -inf in a softmax: the same zeros, and half precision has it


class Layout(NamedTuple):
    """The order of the L tokens: `prefix` tokens that are not patches, then the grid (h, w) row by row."""

    prefix: int
    grid: tuple[int, int]


class Reading(NamedTuple):
    """mix(q, k, v, scale, layout) -> (B, H, L, d), what stands for A v; and which parts of the block are kept.

    levels(last block, the block before it, tokens after every block but the last, layout, prefix), if given, is called
    instead of the last block and returns the patch tokens.

    values_only: mix takes None for q and k, which are then not computed. It saves their product, and TensorRT for RTX
    does not build a graph that computes all three for the values alone.
    """

    mix: Callable[..., torch.Tensor] | None
    residual: bool
    feed_forward: bool
    levels: Callable[..., torch.Tensor] | None = None
    values_only: bool = False


def coordinates(grid: tuple[int, int]) -> torch.Tensor:
    """(h w, 2) float32: row and column of the patches of a grid, row by row."""
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([y.flatten(), x.flatten()], 1).float()
