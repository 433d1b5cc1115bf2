"""A grouping stage (GroupViT, section 3.1, and the conventions of its code).

B batch, L tokens in, S groups, C width. Maps are (B, L, S): each row is the assignment of one token.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn

from zeroseg.config import ModelConfig
from zeroseg.model.attention import CrossAttention, full_precision, transformer_blocks


class StageMaps(NamedTuple):
    """One stage's assignment, both (B, L, S): hard, one-hot rows; soft, the softmax without noise, rows sum to 1."""

    hard: torch.Tensor
    soft: torch.Tensor


def assign_to_groups(logits_BLS: torch.Tensor, *, noise: bool, tau: float = 1.0) -> StageMaps:
    """Every token chooses one group: one-hot of the largest of softmax((logits + Gumbel noise) / tau).

    The hard map is exactly one-hot and carries the gradient of that softmax (straight-through).
    Without noise it is the argmax of the logits.
    """
    soft_BLS = logits_BLS.softmax(dim=-1)
    noisy_BLS = soft_BLS
    if noise:
        gumbel_BLS = -torch.empty_like(logits_BLS).exponential_().log()
        noisy_BLS = ((logits_BLS + gumbel_BLS) / tau).softmax(dim=-1)
    groups_S = torch.arange(logits_BLS.shape[-1], device=logits_BLS.device)
    hard_BLS = (noisy_BLS.argmax(dim=-1, keepdim=True) == groups_S).to(noisy_BLS.dtype)
    if noisy_BLS.requires_grad:
        hard_BLS = hard_BLS + (noisy_BLS - noisy_BLS.detach())  # the bracket is exactly 0
    return StageMaps(hard_BLS, soft_BLS)


def pooling_weights(map_BLS: torch.Tensor, eps: float) -> torch.Tensor:
    """Weights (B, S, L) that average tokens into groups: a_sl / (sum_l a_sl + eps).

    With eps = 1 a group of n tokens weighs n / (n + 1) in all, an empty one 0.
    """
    map_BSL = map_BLS.transpose(1, 2)
    return map_BSL / (map_BSL.sum(dim=-1, keepdim=True) + eps)


class TokenMixer(nn.Module):
    """An MLP along the token axis: (B, S_in, C) -> (B, S_out, C)."""

    def __init__(self, tokens_in: int, hidden: int, tokens_out: int):
        super().__init__()
        self.mlp = Mlp(tokens_in, hidden, tokens_out)

    def forward(self, x_BSC: torch.Tensor) -> torch.Tensor:
        return self.mlp(x_BSC.transpose(1, 2)).transpose(1, 2)


class Assign(nn.Module):
    """One-head assignment of tokens to groups, and the groups' pooled values."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.head_width
        self.config = config
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        if config.assignment == "cosine":
            self.log_scale = nn.Parameter(torch.tensor(math.log(config.assign_scale)))

    def forward(self, group_BSC: torch.Tensor, x_BLC: torch.Tensor) -> tuple[torch.Tensor, StageMaps]:
        q_BSC, k_BLC = self.q(group_BSC).float(), self.k(x_BLC).float()
        if self.config.assignment == "cosine":
            scale = self.log_scale.exp().clamp(max=100.0)
            q_BSC, k_BLC = F.normalize(q_BSC, dim=-1) * scale, F.normalize(k_BLC, dim=-1)
        else:
            q_BSC = q_BSC * q_BSC.shape[-1] ** -0.5
        with full_precision(k_BLC):  # bfloat16 would tie groups whose logits differ by less than 1 %
            logits_BLS = k_BLC @ q_BSC.transpose(1, 2)
        noise = self.training and self.config.gumbel
        maps = assign_to_groups(logits_BLS, noise=noise, tau=self.config.assign_tau)
        used_BLS = maps.hard if self.config.aggregation == "hard" else maps.soft
        weight_BSL = pooling_weights(used_BLS, self.config.assign_eps)
        v_BLC = self.v(x_BLC)
        return self.proj(weight_BSL.to(v_BLC.dtype) @ v_BLC), maps


class GroupingBlock(nn.Module):
    """Tokens (B, L, C) and group tokens (B, S1, C) -> segments (B, S, C) and the stage's maps."""

    def __init__(self, config: ModelConfig, tokens: int, groups: int):
        super().__init__()
        width, eps = config.head_width, config.head_norm_eps
        hidden = int(width * config.head_mlp_ratio)
        self.norm_tokens = nn.LayerNorm(width, eps=eps)
        self.norm_x = nn.LayerNorm(width, eps=eps)
        self.mix = TokenMixer(tokens, int(width * config.group_mix_ratio), groups)
        self.norm_mixed = nn.LayerNorm(width, eps=eps)
        self.cross = CrossAttention(width, config.head_heads)
        self.norm_cross = nn.LayerNorm(width, eps=eps)
        self.mlp_cross = Mlp(width, hidden)
        self.norm_post = nn.LayerNorm(width, eps=eps)
        self.assign = Assign(config)
        self.norm_out = nn.LayerNorm(width, eps=eps)
        self.mlp_out = Mlp(width, hidden)

    def forward(self, x_BLC: torch.Tensor, group_BSC: torch.Tensor) -> tuple[torch.Tensor, StageMaps]:
        x_BLC = self.norm_x(x_BLC)
        g_BSC = self.norm_mixed(self.mix(self.norm_tokens(group_BSC)))
        g_BSC = g_BSC + self.cross(g_BSC, x_BLC)
        g_BSC = self.norm_post(g_BSC + self.mlp_cross(self.norm_cross(g_BSC)))
        pooled_BSC, maps = self.assign(g_BSC, x_BLC)
        out_BSC = pooled_BSC + g_BSC
        return out_BSC + self.mlp_out(self.norm_out(out_BSC)), maps


class GroupingStage(nn.Module):
    """Self-attention over [tokens ; group tokens], then the grouping block.

    tokens_before is the number of the previous stage's group tokens, whose projection is added to this stage's; 0 in
    stage 1.
    """

    def __init__(self, config: ModelConfig, depth: int, tokens_before: int, tokens: int, groups: int, drop_path=()):
        super().__init__()
        width = config.head_width
        self.group_token = nn.Parameter(torch.zeros(1, tokens, width))
        if tokens_before:
            self.norm_before = nn.LayerNorm(width, eps=config.head_norm_eps)
            self.mix_before = TokenMixer(tokens_before, width // 2, tokens)
        else:
            nn.init.trunc_normal_(self.group_token, std=0.02)
        if tokens_before and config.later_token_std:
            nn.init.trunc_normal_(self.group_token, std=config.later_token_std)
        self.tokens_before = tokens_before
        self.blocks = transformer_blocks(
            width, depth, config.head_heads, config.head_mlp_ratio, config.head_norm_eps, drop_path
        )
        self.grouping = GroupingBlock(config, tokens, groups)

    def forward(self, x_BLC: torch.Tensor, before_BSC: torch.Tensor | None = None):
        """Returns segments (B, groups, C), this stage's group tokens (B, tokens, C) and its StageMaps."""
        group_BSC = self.group_token.to(x_BLC.dtype).expand(x_BLC.shape[0], -1, -1)
        if self.tokens_before:
            group_BSC = group_BSC + self.mix_before(self.norm_before(before_BSC))
        count = group_BSC.shape[1]
        both_BTC = torch.cat([x_BLC, group_BSC], dim=1)
        for block in self.blocks:
            both_BTC = block(both_BTC)
        x_BLC, group_BSC = both_BTC[:, :-count], both_BTC[:, -count:]
        segments_BSC, maps = self.grouping(x_BLC, group_BSC)
        return segments_BSC, group_BSC, maps
