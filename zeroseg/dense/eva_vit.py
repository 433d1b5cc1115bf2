"""timm's Eva with rotary positions, as in Perception Encoder (PE-Core): its blocks for any size of image."""

import torch
from torch import nn

from zeroseg.dense.blocks import TimmBlock
from zeroseg.dense.reading import coordinates


class Rotary(nn.Module):
    """Sines and cosines (h w, 2 d) of the patches of a grid, in the order of timm's RotaryEmbeddingCat.

    A patch's coordinates count from 1 and are scaled to the grid of training; every frequency turns two numbers.
    """

    def __init__(self, rope: nn.Module):
        super().__init__()
        self.register_buffer("bands", rope.bands.detach().clone().float(), persistent=False)
        self.reference, self.offset = rope.ref_feat_shape, float(rope.grid_offset)
        self.across_first = rope.grid_indexing == "xy"

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        places = coordinates(grid).to(self.bands) + self.offset
        axes = [places[:, :1], places[:, 1:]]
        if self.reference is not None:
            sides = [torch.scalar_tensor(side, dtype=torch.float32).to(self.bands) for side in grid]
            axes = [axis / side * old for axis, side, old in zip(axes, sides, self.reference, strict=True)]
        if self.across_first:
            axes.reverse()
        angles = torch.cat([axis * self.bands for axis in axes], 1)
        angles = torch.stack([angles, angles], 2).flatten(1)
        return torch.cat([angles.sin(), angles.cos()], 1)


class EvaBlock(TimmBlock):
    """timm's EvaBlock with AttentionRope. `rotary`, a Rotary, is the tower's."""

    def __init__(self, block: nn.Module, rotary: Rotary):
        super().__init__(block)
        self.rotary = rotary

    def qkv(self, x, layout):
        q, k, v = super().qkv(x, layout)
        turn = self.rotary(layout.grid)
        return _turned(q, turn, layout.prefix), _turned(k, turn, layout.prefix), v

    def first_scale(self, x):
        return x if self.block.gamma_1 is None else x * self.block.gamma_1

    def feed_forward(self, x):
        x = self.block.mlp(self.block.norm2(x))
        return x if self.block.gamma_2 is None else x * self.block.gamma_2


def plain(trunk: nn.Module) -> str | None:
    """What is not as expected of an Eva, or None."""
    block = trunk.blocks[-1]
    attention, rope = getattr(block, "attn", None), trunk.rope
    if type(block).__name__ != "EvaBlock" or type(attention).__name__ != "AttentionRope":
        return f"its blocks are {type(block).__name__} with {type(attention).__name__}"
    if attention.qkv is None or attention.gate is not None or attention.rotate_half:
        return "its attention is not plain"
    if type(rope).__name__ != "RotaryEmbeddingCat" or rope.grid_type != "index":
        return "its positions are not plain rotary ones"
    return None


def _turned(x: torch.Tensor, turn: torch.Tensor, prefix: int) -> torch.Tensor:
    """x (B, H, L, d) with the tokens after `prefix` turned by sines and cosines (N, 2 d), neighbours by neighbours."""
    first, places = x[:, :, :prefix], x[:, :, prefix:]
    sine, cosine = turn.chunk(2, 1)
    pairs = places.unflatten(3, (-1, 2))
    across = torch.stack([-pairs[..., 1], pairs[..., 0]], 4).flatten(3)
    return torch.cat([first, places * cosine + across * sine], 2)
