"""From segment tokens to the teacher's embedding space.

A readout is called as readout(tokens_BKC, soft_map_BLK, stem) -> (B, K, D). `stem` is a StemContext for readouts that
look at the stem's maps too, or None with plain ViT patches.
"""

from typing import NamedTuple

import torch
from torch import nn

from zeroseg.config import ModelConfig
from zeroseg.model.stem import ConvStem, StemFeatures


class StemContext(NamedTuple):
    """The stem's maps for this batch, the stem itself, and the places kept (B, M) int64 while masking (None: all)."""

    features: StemFeatures
    module: ConvStem
    keep: torch.Tensor | None


class Projector(nn.Module):
    """The paper's MLP: linear, norm, ReLU, linear (GroupViT's shape), the same for every token."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        hidden = config.projector_hidden
        self.expand = nn.Linear(config.head_width, hidden)
        norms = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "none": lambda n: nn.Identity()}
        self.norm = norms[config.projector_norm](hidden)
        self.project = nn.Linear(hidden, config.embedding_dim)

    def forward(self, tokens_BKC: torch.Tensor, soft_map_BLK=None, stem: StemContext | None = None) -> torch.Tensor:
        hidden_BKH = self.expand(tokens_BKC)
        hidden_BKH = self.norm(hidden_BKH.flatten(0, 1)).view_as(hidden_BKH).relu()
        return self.project(hidden_BKH)


def build_readout(config: ModelConfig, stem: ConvStem | None) -> nn.Module:
    """The readout that the configuration names."""
    if config.readout == "projector":
        return Projector(config)
    raise ValueError(f"readout: {config.readout!r} is not built yet, use 'projector'")
