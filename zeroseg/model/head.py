"""The segmentation head: grouping stages, then a last stage of self-attention over the segments.

B batch, L patches, K final segments, C width.
"""

from typing import NamedTuple

import torch
from torch import nn

from zeroseg.config import ModelConfig
from zeroseg.model.attention import full_precision, init_truncated, transformer_blocks
from zeroseg.model.grouping import GroupingStage, StageMaps


class HeadOutput(NamedTuple):
    """tokens (B, K, C) after the last LayerNorm; soft_map (B, L, K), rows sum to 1; stage_maps, one per stage."""

    tokens: torch.Tensor
    soft_map: torch.Tensor
    stage_maps: list[StageMaps]


def compose_maps(maps: list[torch.Tensor]) -> torch.Tensor:
    """Product of stage maps [(B, L, S1), (B, S1, S2), ...] -> (B, L, K)."""
    product = maps[0]
    with full_precision(product):
        for stage in maps[1:]:
            product = product @ stage
    return product


class SegmentationHead(nn.Module):
    def __init__(self, config: ModelConfig, drop_path=()):
        super().__init__()
        width = config.head_width
        self.adapter = nn.Linear(config.width, width) if width != config.width else nn.Identity()
        rates = list(drop_path) or [0.0] * sum(config.head_depths)
        before = (0, *config.group_tokens)
        self.stages = nn.ModuleList()
        for depth, tokens_before, tokens, groups in zip(
            config.head_depths, before, config.group_tokens, config.output_groups
        ):
            self.stages.append(GroupingStage(config, depth, tokens_before, tokens, groups, rates[:depth]))
            rates = rates[depth:]
        self.last = transformer_blocks(
            width, config.head_depths[-1], config.head_heads, config.head_mlp_ratio, config.head_norm_eps, rates
        )
        self.norm = nn.LayerNorm(width, eps=config.head_norm_eps)
        self.apply(init_truncated)

    def forward(self, x_BLC: torch.Tensor) -> HeadOutput:
        """Encoder tokens without the class token (B, L, C)."""
        x_BLC = self.adapter(x_BLC)
        group_BSC, stage_maps = None, []
        for stage in self.stages:
            x_BLC, group_BSC, maps = stage(x_BLC, group_BSC)
            stage_maps.append(maps)
        for block in self.last:
            x_BLC = block(x_BLC)
        return HeadOutput(self.norm(x_BLC), compose_maps([m.soft for m in stage_maps]), stage_maps)
