"""From segment tokens to the teacher's embedding space.

A readout is called as readout(tokens_BKC, soft_map_BLK, stem) -> (B, K, D). `stem` is a StemContext for readouts that
also use the stem's maps, or None with plain ViT patches.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from zeroseg.config import ModelConfig
from zeroseg.model.stem import ConvStem, StemFeatures


class StemContext(NamedTuple):
    """The stem's maps for this batch, the stem itself, and the patches kept (B, M) int64 by masking (None: all)."""

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


class Prototypes(nn.Module):
    """A segment as a mixture of known vectors: softmax(class logits) over prototypes gives its name, a gate its length.

    The logits start as those of the stem's own ImageNet classifier, pooled over the segment by the soft map, plus those
    of the whole photo (the strongest cue to what a part belongs to). The segment token corrects them. Names without a
    class start at 0, or have their own classifier (config.prototype_classifier). So the readout starts as ConSE
    (Norouzi et al., 2014) with this network, and every class keeps its name. Vectors are relative to `centre`, the mean
    text vector. |e| in [0, 1] is the confidence that the segment is something with a name.
    """

    def __init__(self, config: ModelConfig, stem: ConvStem):
        super().__init__()
        classes, width = stem.classifier.out_features, config.head_width
        if config.prototypes < classes:
            raise ValueError(f"prototypes: expected at least the stem's {classes} classes, got {config.prototypes}")
        self.register_buffer("vectors", torch.zeros(config.prototypes, config.embedding_dim))
        self.register_buffer("centre", torch.zeros(config.embedding_dim))
        self.extra = config.prototypes - classes
        learned = config.prototype_classifier and self.extra
        self.classifier = nn.Linear(stem.classifier.in_features, self.extra) if learned else None
        self.mix = nn.Parameter(torch.tensor([1.0, 2.0]))  # weights of the segment's own logits and of the photo's
        self.hidden = nn.Linear(width, config.prototype_hidden)
        self.correct = nn.Linear(config.prototype_hidden, config.prototypes)
        self.gate = nn.Linear(config.prototype_hidden + 2, 1)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def set_vectors(self, vectors, centre) -> None:
        """vectors (P, D), unit rows measured from centre (D,); rows of zeros are classes without a name."""
        self.vectors.copy_(torch.as_tensor(vectors))
        self.centre.copy_(torch.as_tensor(centre))

    def forward(self, tokens_BKC: torch.Tensor, soft_map_BLK: torch.Tensor, stem: StemContext) -> torch.Tensor:
        return self.embed(tokens_BKC, *self.pool(soft_map_BLK, stem), stem.module)

    def pool(self, soft_map_BLK: torch.Tensor, stem: StemContext) -> tuple[torch.Tensor, torch.Tensor]:
        """The stem's head features, averaged over every segment (B, K, Q) and over the photo (B, 1, Q)."""
        coarse = stem.features.coarse
        features_BQT = stem.module.head_features(coarse).flatten(2)  # Q = 1280 channels, T = coarse places
        if stem.keep is not None:  # removed places belong to no segment
            everywhere = soft_map_BLK.new_zeros(len(coarse), stem.features.fine[0, 0].numel(), soft_map_BLK.shape[2])
            soft_map_BLK = everywhere.scatter(1, stem.keep[:, :, None].expand_as(soft_map_BLK), soft_map_BLK)
        map_BKhw = soft_map_BLK.transpose(1, 2).unflatten(2, stem.features.fine.shape[2:])
        map_BTK = F.avg_pool2d(map_BKhw, 2).flatten(2).transpose(1, 2)
        weight_BTK = map_BTK / map_BTK.sum(dim=1, keepdim=True).clamp_min(1e-4)
        return (features_BQT @ weight_BTK).transpose(1, 2), features_BQT.mean(dim=2)[:, None]

    def embed(self, tokens_BKC, pooled_BKQ, photo_B1Q, stem: ConvStem) -> torch.Tensor:
        """Embeddings (B, K, D) of segments, from their tokens and what pool() gives."""
        classify = self._classifier(stem)
        own_BKP, photo_B1P = classify(pooled_BKQ), classify(photo_B1Q)
        hidden_BKH = F.gelu(self.hidden(tokens_BKC))
        logits_BKP = self.mix[0] * own_BKP + self.mix[1] * photo_B1P + self.correct(hidden_BKH)
        name_BKD = F.normalize(logits_BKP.softmax(dim=-1) @ self.vectors, dim=-1)
        sureness_BK2 = torch.stack([own_BKP.amax(dim=-1), (own_BKP + photo_B1P).amax(dim=-1)], dim=-1) / 10
        return torch.sigmoid(self.gate(torch.cat([hidden_BKH, sureness_BK2], dim=-1))) * name_BKD

    def _classifier(self, stem: ConvStem):
        """Head features (B, K, Q) -> logits (B, K, P): the stem's classes, then the names beyond them, 0 or learned."""
        if self.classifier is None:
            return lambda features_BKQ: F.pad(stem.classifier(features_BKQ), (0, self.extra))
        both = (stem.classifier, self.classifier)
        return lambda features_BKQ: torch.cat([part(features_BKQ) for part in both], dim=-1)


def build_readout(config: ModelConfig, stem: ConvStem | None) -> nn.Module:
    """The readout that the configuration names; ValueError if it needs something that the encoder lacks."""
    if config.readout == "projector":
        return Projector(config)
    if stem is None or stem.classifier is None:
        raise ValueError("readout: prototypes need a hybrid encoder with stem_head; use 'projector'")
    return Prototypes(config, stem)
