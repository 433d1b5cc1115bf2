"""Transformer pieces shared by the encoder, the reconstruction head and the segmentation head.

B batch, L keys, S queries, C width, H heads, D width of one head.
"""

from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn


def transformer_blocks(width, depth, heads, mlp_ratio, eps, drop_path=()) -> nn.ModuleList:
    """Pre-norm self-attention blocks with qkv bias, GELU and LayerNorm; drop_path holds one rate per block."""
    rates = drop_path or [0.0] * depth
    norm = partial(nn.LayerNorm, eps=eps)
    return nn.ModuleList(
        Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=norm, drop_path=rate) for rate in rates
    )


class CrossAttention(nn.Module):
    """Multi-head attention of queries (B, S, C) over keys (B, L, C); biases everywhere, no norms."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.fused_attn = True
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, query_BSC: torch.Tensor, key_BLC: torch.Tensor) -> torch.Tensor:
        batch, count, width = query_BSC.shape
        shape = (batch, -1, self.heads, width // self.heads)
        q_BHSD = self.q(query_BSC).reshape(shape).transpose(1, 2)
        k_BLC, v_BLC = self.kv(key_BLC).chunk(2, dim=-1)
        k_BHLD, v_BHLD = k_BLC.reshape(shape).transpose(1, 2), v_BLC.reshape(shape).transpose(1, 2)
        if self.fused_attn:
            out_BHSD = F.scaled_dot_product_attention(q_BHSD, k_BHLD, v_BHLD)
        else:
            logits_BHSL = (q_BHSD * (width // self.heads) ** -0.5) @ k_BHLD.transpose(-2, -1)
            out_BHSD = logits_BHSL.softmax(dim=-1) @ v_BHLD
        return self.proj(out_BHSD.transpose(1, 2).reshape(batch, count, width))


def full_precision(x: torch.Tensor):
    """Context in which matrix products of float32 tensors stay float32 under autocast (a no-op without autocast)."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def use_canonical_attention(module: nn.Module, canonical: bool = True) -> None:
    """Switch every attention below `module` between softmax(QK)V (exports as plain nodes) and the fused kernel."""
    for child in module.modules():
        if hasattr(child, "fused_attn"):
            child.fused_attn = not canonical


def init_xavier(module: nn.Module) -> None:
    """MAE's initialisation: xavier-uniform linears, zero biases, unit LayerNorms."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
    _init_rest(module)


def init_truncated(module: nn.Module) -> None:
    """GroupViT's initialisation: truncated normal (0.02) linears, zero biases, unit LayerNorms."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    _init_rest(module)


def _init_rest(module):
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
