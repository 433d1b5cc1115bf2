"""What is exported: a model in evaluation mode with the face that every runner knows (zeroseg/runtime/base.py)."""

import torch
from torch import nn

from zeroseg.dense.model import scores_of
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.runtime.base import DENSE_OUTPUTS, OUTPUTS


class ExportModel(nn.Module):
    """image, label_embeddings -> segment_maps, segment_scores, image_scores. Takes the model over: canonical attention.

    B batch, K segments, N labels, D embedding dim; h = H / stride, w = W / stride.
    """

    outputs = OUTPUTS

    def __init__(self, model: ZeroSeg):
        super().__init__()
        self.model, self.multiple, self.embedding_dim = model, model.config.size_multiple, model.config.embedding_dim
        self.model.export_friendly = True
        self.eval()

    def forward(self, image: torch.Tensor, label_embeddings: torch.Tensor):
        """image (B, 3, H, W) and label_embeddings (N, D) -> (B, K, h, w), (B, K, N), (B, N); all float32."""
        output = self.model(image)
        segment_scores, image_scores = self.model.score(output, label_embeddings)
        maps_BKL = output.soft_map.transpose(1, 2)
        return maps_BKL.unflatten(2, output.grid), segment_scores, image_scores


class DenseExportModel(nn.Module):
    """image, label_embeddings -> place_scores, image_scores, of a DenseTower (zeroseg/dense/towers.py)."""

    outputs = DENSE_OUTPUTS

    def __init__(self, tower: nn.Module, embedding_dim: int):
        super().__init__()
        self.tower, self.multiple, self.embedding_dim = tower, tower.patch, embedding_dim
        self.eval()

    def forward(self, image: torch.Tensor, label_embeddings: torch.Tensor):
        """image (B, 3, H, W) and label_embeddings (N, D) -> (B, N, h, w), (B, N); all float32."""
        self.tower.export_friendly = True
        try:
            return scores_of(self.tower, image, label_embeddings)
        finally:
            self.tower.export_friendly = False
