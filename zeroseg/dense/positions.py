"""Position embeddings of a tower for another patch grid.

Along one axis, resizing is a matrix with the weights of the old patches for every new patch; the whole is one product
from either side. Exported graphs compute the matrices from the image's size with plain arithmetic, because not every
runtime has an operator for each way of resizing.

There are three ways, because each published figure was made with one of them:

antialiased  bicubic with antialiasing, as open_clip and timm resize a checkpoint's positions.
offset       bicubic without antialiasing, at the scale (new + 0.1) / old: the code of DINO, from which the code of
             SCLIP, ClearCLIP, NACLIP, ProxyCLIP, SC-CLIP and SFP has it. The 0.1 moves every sample a little.
square       bilinear from the square of the longer side, of which the first rows and columns are taken: RADIO's.
"""

import torch
from torch import nn
from torch.nn import functional as F

A = -0.5  # of the cubic kernel: what PyTorch, like Pillow, takes with antialiasing
PLAIN_A = -0.75  # and without
OFFSET = 0.1  # patches


class Positions(nn.Module):
    """Vectors (prefix + h w, C) for a grid (h, w), as trained; those of other grids are computed on request.

    way: antialiased, offset or square, see the module.
    """

    def __init__(self, trained: torch.Tensor, prefix: int, grid: tuple[int, int], way: str = "antialiased"):
        super().__init__()
        self.prefix, self.grid, self.way = prefix, grid, way
        self.trained = nn.Parameter(trained.detach(), requires_grad=False)

    def forward(self, grid: tuple[int, int], free: bool = False) -> torch.Tensor:
        """(prefix + h w, C) for this grid. free: by matrices only; the grid may be symbolic."""
        if tuple(grid) == self.grid and not free:
            return self.trained
        places = self.trained[self.prefix :].unflatten(0, self.grid)
        if self.way == "antialiased" and not free:
            image = places.permute(2, 0, 1)[None].float()
            image = F.interpolate(image, tuple(grid), mode="bicubic", antialias=True, align_corners=False)
            places = image[0].permute(1, 2, 0).to(places)
        else:
            rows, columns = (matrix.to(places) for matrix in self._matrices(grid))
            places = (rows @ places.flatten(1)).unflatten(1, (self.grid[1], -1))  # (new h, w, C)
            places = columns @ places
        return torch.cat([self.trained[: self.prefix], places.flatten(0, 1)])

    def _matrices(self, grid):
        if self.way == "antialiased":
            return [cubic_weights(old, new) for old, new in zip(self.grid, grid, strict=True)]
        height, width = (torch.scalar_tensor(side, dtype=torch.float32) for side in grid)
        if self.way == "square":
            longer = torch.maximum(height, width)
            return [linear_weights(old, new, longer) for old, new in zip(self.grid, grid, strict=True)]
        # at the trained size, the authors take the trained positions
        other = ((height - self.grid[0]).abs() + (width - self.grid[1]).abs()).clamp(max=1)
        return [plain_cubic_weights(old, new, OFFSET * other) for old, new in zip(self.grid, grid, strict=True)]


def cubic_weights(old: int, new: int) -> torch.Tensor:
    """(new, old) float32: row i has the weights of the `old` patches for patch i of `new`; rows sum to 1.

    If new is smaller, the kernel is widened by old / new (antialiasing). Kernels are clipped at the edges.
    """
    count = torch.scalar_tensor(new, dtype=torch.float32)
    step = old / count
    centres = (torch.arange(new, dtype=torch.float32) + 0.5) * step
    distance = (torch.arange(old) + 0.5 - centres[:, None]) / step.clamp(min=1)
    weights = _cubic(distance.abs(), A)
    return weights / weights.sum(1, keepdim=True)


def plain_cubic_weights(old: int, new: int, offset: torch.Tensor | float = 0.0) -> torch.Tensor:
    """As cubic_weights, without antialiasing and at the scale (new + offset) / old; the edge's patch is repeated."""
    step = old / (torch.scalar_tensor(new, dtype=torch.float32) + offset)
    centres = (torch.arange(new, dtype=torch.float32) + 0.5) * step - 0.5
    first = centres.floor()
    weights = torch.zeros((), dtype=torch.float32)
    for tap in range(-1, 3):
        index = first + tap
        at = index.clamp(0, old - 1)[:, None] == torch.arange(old)
        weights = weights + _cubic((index - centres).abs(), PLAIN_A)[:, None] * at
    return weights


def linear_weights(old: int, new: int, of: torch.Tensor | None = None) -> torch.Tensor:
    """(new, old) float32: the bilinear weights of PyTorch's interpolate with align_corners=False, one axis.

    of: a number of patches, of which the first `new` are taken; None for new.
    """
    count = torch.scalar_tensor(new, dtype=torch.float32) if of is None else of
    centres = ((torch.arange(new, dtype=torch.float32) + 0.5) * (old / count) - 0.5).clamp(0, old - 1)
    return (1 - (torch.arange(old) - centres[:, None]).abs()).clamp(min=0)


def _cubic(x: torch.Tensor, a: float) -> torch.Tensor:
    """Keys' kernel of distances x >= 0 (1981, IEEE Trans. ASSP 29(6), equation 4, with a for -1/2); 0 from 2 on."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
