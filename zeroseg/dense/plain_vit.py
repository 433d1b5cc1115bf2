"""timm's VisionTransformer for any size of image: its tokens before the first block."""

import torch
from torch import nn

from zeroseg.dense.positions import Positions


class PlainTokens(nn.Module):
    """image (B, 3, H, W) -> tokens (B, L, C): class token and registers, then the patches with their positions."""

    def __init__(self, trunk: nn.Module, way: str = "antialiased"):
        super().__init__()
        trunk.patch_embed.strict_img_size = False
        self.trunk, self.positions = trunk, None
        if trunk.pos_embed is not None:
            own = 0 if trunk.no_embed_class else trunk.num_prefix_tokens  # tokens with a position besides the places
            self.positions = Positions(trunk.pos_embed[0], own, tuple(trunk.patch_embed.grid_size), way)

    def forward(self, image: torch.Tensor, grid: tuple[int, int], free: bool) -> torch.Tensor:
        """grid: of the patches; free: whether it may be symbolic."""
        trunk = self.trunk
        x = trunk.patch_embed(image)
        extra = [token.expand(x.shape[0], -1, -1) for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        if self.positions is None:
            x = torch.cat([*extra, x], 1)
        else:
            positions = self.positions(grid, free)
            x = torch.cat([*extra, x + positions], 1) if trunk.no_embed_class else torch.cat([*extra, x], 1) + positions
        return trunk.norm_pre(x)


def patch_of(trunk: nn.Module) -> int:
    """Pixels per place: a hybrid's patch embedding counts its own stride on top of its backbone's."""
    size, grid = trunk.patch_embed.img_size, trunk.patch_embed.grid_size
    return size[0] // grid[0]
