"""ProxyCLIP's reading: patches share values by how alike a helper network finds them.

Lan et al. 2024, arXiv 2408.04883, with the settings of the authors' code. f_i are the helper's patch features of the
same image, of unit length:

A = f f';  A = 3 (A - 1.2 mean A);  W = softmax of A's rows, without what is below 0
places = P(W v), v the values of the last block at the patches, resized bilinearly to the helper's grid

The residual and the feed-forward are dropped. There is one place per patch of the helper.
"""

import torch

from zeroseg.dense.positions import linear_weights
from zeroseg.dense.reading import NEVER, Reading

NAME = "proxyclip"
BETA, GAMMA = 1.2, 3.0


def proxy(features: torch.Tensor, grid: tuple[int, int]) -> Reading:
    """The reading for helper features (B, M, C) of unit length on a grid of M patches.

    An image that looks the same everywhere has no A above 0: its patches then share their values equally.
    """
    alike = features @ features.transpose(1, 2)
    alike = GAMMA * (alike - BETA * alike.mean((1, 2), keepdim=True))
    weights = torch.softmax(torch.where(alike < 0, torch.full_like(alike, NEVER), alike), -1)[:, None]

    def mix(q, k, v, scale, layout):
        return weights @ resized(v[:, :, layout.prefix :], layout.grid, grid)

    return Reading(mix, False, False, values_only=True)


def resized(v: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    """v (B, H, h w, d) on the grid `old` -> (B, H, h' w', d) on the grid `new`, bilinear as PyTorch resizes maps."""
    rows, columns = (linear_weights(before, after).to(v) for before, after in zip(old, new, strict=True))
    size = v.shape[3]
    v = rows @ v.unflatten(2, old).flatten(3)  # (B, H, h', w d)
    return (columns @ v.unflatten(3, (old[1], size))).flatten(2, 3)
