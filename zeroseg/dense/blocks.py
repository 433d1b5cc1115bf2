"""The last block of a tower, divided for the attention variants: q, k, v, projection, residual, feed-forward.

Each of the three classes wraps one library's block and uses its weights; the formulas are in `readings`. Tokens are
(B, L, C) everywhere; B batch, H heads, L tokens, d = C / H.
"""

import torch
from torch import nn

from zeroseg.dense.reading import Layout, Reading


class LastBlock(nn.Module):
    """forward() of the subclasses' parts: qkv(x, layout), values(x), project(values), first_scale(x), feed_forward(x).

    values(x) is the v of qkv alone.
    """

    scale: float

    def forward(self, x: torch.Tensor, reading: Reading, layout: Layout) -> torch.Tensor:
        """Tokens (B, L, C) before the block -> tokens (B, L, C) after it, with the attention variant `reading`."""
        q, k, v = (None, None, self.values(x)) if reading.values_only else self.qkv(x, layout)
        mixed = reading.mix(q, k, v, self.scale, layout)  # (B, H, L, d)
        out = self.first_scale(self.project(mixed.transpose(1, 2).flatten(2)))
        if reading.residual:
            out = x + out
        return out + self.feed_forward(out) if reading.feed_forward else out


def _split(qkv: torch.Tensor, heads: int) -> tuple[torch.Tensor, ...]:
    """(B, L, 3 C) -> three of (B, H, L, d)."""
    return qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _values(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, heads: int) -> torch.Tensor:
    """x (B, L, C) and the weights of q, k and v, packed (3 C, C) and (3 C) -> v (B, H, L, d)."""
    start = weight.shape[0] // 3 * 2
    v = nn.functional.linear(x, weight[start:], None if bias is None else bias[start:])
    return v.unflatten(2, (heads, -1)).transpose(1, 2)


class OpenClipBlock(LastBlock):
    """open_clip's ResidualAttentionBlock, around torch's MultiheadAttention."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block, self.scale = block, block.attn.head_dim**-0.5

    def qkv(self, x, layout):
        attention = self.block.attn
        packed = nn.functional.linear(self.block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
        return _split(packed, attention.num_heads)

    def values(self, x):
        attention = self.block.attn
        return _values(self.block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias, attention.num_heads)

    def project(self, values):
        return self.block.attn.out_proj(values)

    def first_scale(self, x):
        return self.block.ls_1(x)

    def feed_forward(self, x):
        return self.block.ls_2(self.block.mlp(self.block.ln_2(x)))


class TimmBlock(LastBlock):
    """timm's Block of a VisionTransformer."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block, self.scale = block, block.attn.scale

    def qkv(self, x, layout):
        attention = self.block.attn
        q, k, v = _split(attention.qkv(self.block.norm1(x)), attention.num_heads)
        return attention.q_norm(q), attention.k_norm(k), v

    def values(self, x):
        attention = self.block.attn
        return _values(self.block.norm1(x), attention.qkv.weight, attention.qkv.bias, attention.num_heads)

    def project(self, values):
        return self.block.attn.proj(self.block.attn.norm(values))

    def first_scale(self, x):
        return self.block.ls1(x)

    def feed_forward(self, x):
        return self.block.ls2(self.block.mlp(self.block.norm2(x)))


class FastVitBlock(LastBlock):
    """timm's AttentionBlock of a FastVit, whose other parts work on maps (B, C, h, w)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block, self.scale = block, block.token_mixer.scale

    def forward(self, x, reading, layout):
        self.grid = layout.grid
        return super().forward(x, reading, layout)

    def qkv(self, x, layout):
        mixer = self.block.token_mixer
        return _split(mixer.qkv(self._on_maps(self.block.norm, x)), mixer.num_heads)

    def values(self, x):
        mixer = self.block.token_mixer
        return _values(self._on_maps(self.block.norm, x), mixer.qkv.weight, mixer.qkv.bias, mixer.num_heads)

    def project(self, values):
        return self.block.token_mixer.proj(values)

    def first_scale(self, x):
        return self._on_maps(self.block.layer_scale_1, x)

    def feed_forward(self, x):
        return self._on_maps(lambda maps: self.block.layer_scale_2(self.block.mlp(maps)), x)

    def _on_maps(self, function, x):
        maps = x.transpose(1, 2).unflatten(2, self.grid)
        return function(maps).flatten(2).transpose(1, 2)
