"""The reconstruction head: MAE's decoder and pixel loss (the ZeroSeg paper's MSE in pixel space).

B batch, L patches, T encoder tokens, C width, P values of one patch (patch * patch * 3).
"""

import torch
from torch import nn

from zeroseg.config import ModelConfig
from zeroseg.model.attention import init_xavier, transformer_blocks
from zeroseg.model.encoder import Masking, grid_positions


def patchify(image: torch.Tensor, patch: int) -> torch.Tensor:
    """image (B, 3, H, W) -> (B, L, patch * patch * 3): patches row by row, inside each y, x, channel."""
    batch, channels, height, width = image.shape
    h, w = height // patch, width // patch
    x = image.reshape(batch, channels, h, patch, w, patch).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(batch, h * w, patch * patch * channels)


def reconstruction_loss(pred_BLP, image, mask_BL, *, patch: int, normalize_pixels: bool) -> torch.Tensor:
    """Mean squared error per patch, averaged over the removed patches (mask 1); a scalar.

    With normalize_pixels each target patch is shifted and scaled to mean 0, variance 1 (unbiased, eps 1e-6).
    """
    target_BLP = patchify(image, patch)
    if normalize_pixels:
        mean, var = target_BLP.mean(dim=-1, keepdim=True), target_BLP.var(dim=-1, keepdim=True)
        target_BLP = (target_BLP - mean) / (var + 1e-6) ** 0.5
    error_BL = (pred_BLP.float() - target_BLP).square().mean(dim=-1)
    return (error_BL * mask_BL).sum() / mask_BL.sum()


class ReconstructionHead(nn.Module):
    """Linear layer, mask tokens for removed patches, positions, `decoder_depth` blocks, LayerNorm, linear to pixels."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        width = config.decoder_width
        self.embed = nn.Linear(config.width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.blocks = transformer_blocks(
            width, config.decoder_depth, config.decoder_heads, config.mlp_ratio, config.norm_eps
        )
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.pred = nn.Linear(width, config.patch_size**2 * 3)
        self.apply(init_xavier)

    def forward(self, tokens_BTC: torch.Tensor, masking: Masking, grid: tuple) -> torch.Tensor:
        """Encoder tokens (class token first, if there is one) -> predicted pixels (B, L, P)."""
        x_BTC = self.embed(tokens_BTC)
        first = int(self.config.class_token)
        class_token, kept = x_BTC[:, :first], x_BTC[:, first:]
        removed = masking.restore.shape[1] - kept.shape[1]
        filled = torch.cat([kept, self.mask_token.to(kept.dtype).expand(kept.shape[0], removed, -1)], dim=1)
        x_BLC = filled.gather(1, masking.restore[:, :, None].expand(-1, -1, filled.shape[2]))
        x_BLC = x_BLC + grid_positions(self.config, grid, x_BLC.shape[2], x_BLC.device)
        x_BTC = torch.cat([class_token, x_BLC], dim=1)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return self.pred(self.norm(x_BTC))[:, first:]
