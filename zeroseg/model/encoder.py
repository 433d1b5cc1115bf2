"""The MAE-style encoder: tokens with positions, of which training keeps a random subset, then transformer blocks.

B batch, L patches, M patches kept, T tokens (M, plus one with a class token), C width.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zeroseg.config import ModelConfig
from zeroseg.model.attention import init_xavier, transformer_blocks
from zeroseg.model.positions import sincos_positions


class Masking(NamedTuple):
    """Which patches were kept: keep (B, M) int64, restore (B, L) int64 (indices), mask (B, L) float32 (1 = removed)."""

    keep: torch.Tensor
    restore: torch.Tensor
    mask: torch.Tensor


def kept_count(places: int, mask_ratio: float) -> int:
    """The number of patches that stay visible: int(L (1 - r)), as in MAE."""
    return int(places * (1 - mask_ratio))


def mask_from_noise(noise_BL: torch.Tensor, mask_ratio: float) -> Masking:
    """Keep the patches with the smallest noise (MAE's random masking per sample)."""
    places = noise_BL.shape[1]
    count = kept_count(places, mask_ratio)
    if count < 1:
        raise ValueError(
            f"mask_ratio: {mask_ratio} leaves none of {places} patches; use a larger image or a lower ratio"
        )
    order_BL = noise_BL.argsort(dim=1)
    restore_BL = order_BL.argsort(dim=1)
    mask_BL = (restore_BL >= count).float()
    return Masking(order_BL[:, :count], restore_BL, mask_BL)


def take_places(x_BLC: torch.Tensor, index_BM: torch.Tensor) -> torch.Tensor:
    """Rows of x at the given patches: (B, M, C)."""
    return x_BLC.gather(1, index_BM[:, :, None].expand(-1, -1, x_BLC.shape[2]))


def grid_positions(config: ModelConfig, grid: tuple, dim: int, device) -> torch.Tensor | float:
    """Positions (1, L, dim) of a grid (h, w) by the configured rule; 0.0 where the rule is "none"."""
    if config.positions == "none":
        return 0.0
    reference = config.image_size // config.patch_size if config.positions == "stretch" else None
    return sincos_positions(*grid, dim, reference=reference, device=device)[None]


class PatchTokens(nn.Module):
    """Linear patch embedding plus positions: image (B, 3, H, W) -> tokens (B, L, C), row by row."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        nn.init.xavier_uniform_(self.proj.weight.view(config.width, -1))
        nn.init.zeros_(self.proj.bias)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, tuple]:
        """Returns the tokens and the grid (h, w)."""
        x_BCHW = self.proj(image)
        grid = tuple(x_BCHW.shape[2:])
        x_BLC = x_BCHW.flatten(2).transpose(1, 2)
        return x_BLC + grid_positions(self.config, grid, x_BLC.shape[2], x_BLC.device), grid


class Encoder(nn.Module):
    """Optional class token, `depth` pre-norm blocks, LayerNorm (MAE, ViT).

    recompute  activations inside the blocks are computed again for the gradient instead of kept (gradient
    checkpointing).
    """

    recompute = False

    def __init__(self, config: ModelConfig, drop_path=()):
        super().__init__()
        if config.class_token:
            self.class_token = nn.Parameter(torch.empty(1, 1, config.width).normal_(std=0.02))
        else:
            self.class_token = None
        self.blocks = transformer_blocks(
            config.width, config.depth, config.heads, config.mlp_ratio, config.norm_eps, drop_path
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.blocks.apply(init_xavier)

    def forward(self, x_BMC: torch.Tensor) -> torch.Tensor:
        """Tokens with positions (B, M, C) -> (B, T, C); the class token, if any, comes first and has no position."""
        if self.class_token is not None:
            x_BMC = torch.cat([self.class_token.expand(x_BMC.shape[0], -1, -1), x_BMC], dim=1)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x_BMC = checkpoint(block, x_BMC, use_reentrant=False)
            else:
                x_BMC = block(x_BMC)
        return self.norm(x_BMC)
