"""Position embeddings of a tower for another patch grid: bicubic with antialiasing, as in open_clip and timm.

Along one axis, resizing is a matrix with the weights of the old patches for every new patch; the whole is one product
from either side. Exported graphs compute the matrices from the image's size with plain arithmetic, because not every
runtime has an operator for resizing with antialiasing.
"""

import torch
from torch import nn
from torch.nn import functional as F

A = -0.5  # of the cubic kernel: what PyTorch, like Pillow, takes with antialiasing


class Positions(nn.Module):
    """Vectors (prefix + h w, C) for a grid (h, w), as trained; those of other grids are computed on request."""

    def __init__(self, trained: torch.Tensor, prefix: int, grid: tuple[int, int]):
        super().__init__()
        self.prefix, self.grid = prefix, grid
        self.trained = nn.Parameter(trained.detach(), requires_grad=False)
        self._made = {}

    def forward(self, grid: tuple[int, int], free: bool = False) -> torch.Tensor:
        """(prefix + h w, C) for this grid. free: by matrices; the grid may be symbolic."""
        if tuple(grid) == self.grid and not free:
            return self.trained
        places = self.trained[self.prefix :].unflatten(0, self.grid)
        if free:
            rows, columns = (cubic_weights(old, new).to(places) for old, new in zip(self.grid, grid, strict=True))
            places = (rows @ places.flatten(1)).unflatten(1, (self.grid[1], -1))  # (new h, w, C)
            places = columns @ places
        else:
            image = places.permute(2, 0, 1)[None].float()
            image = F.interpolate(image, tuple(grid), mode="bicubic", antialias=True, align_corners=False)
            places = image[0].permute(1, 2, 0).to(places)
        return torch.cat([self.trained[: self.prefix], places.flatten(0, 1)])


def cubic_weights(old: int, new: int) -> torch.Tensor:
    """(new, old) float32: row i has the weights of the `old` patches for patch i of `new`; rows sum to 1.

    If new is smaller, the kernel is widened by old / new (antialiasing). Kernels are clipped at the edges.
    """
    count = torch.scalar_tensor(new, dtype=torch.float32)
    step = old / count
    centres = (torch.arange(new, dtype=torch.float32) + 0.5) * step
    distance = (torch.arange(old) + 0.5 - centres[:, None]) / step.clamp(min=1)
    weights = _cubic(distance.abs())
    return weights / weights.sum(1, keepdim=True)


def _cubic(x: torch.Tensor) -> torch.Tensor:
    """Keys' kernel of distances x >= 0 (1981, IEEE Trans. ASSP 29(6), equation 4, with a for -1/2); 0 from 2 on."""
    near = ((A + 2) * x - (A + 3)) * x * x + 1
    far = ((A * x - 5 * A) * x + 8 * A) * x - 4 * A
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
