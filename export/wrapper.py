"""The module to export: a model in evaluation mode with the outputs of every runner (zeroseg/runtime/base.py)."""

import torch
from torch import nn

from zeroseg.dense.model import embeddings_of
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.runtime.base import DENSE_OUTPUTS, OUTPUTS


class ExportModel(nn.Module):
    """image -> segment_maps, segment_embeddings, image_embedding. Takes the model over: canonical attention.

    B batch, K segments, D embedding dim; h = H / stride, w = W / stride.
    """

    outputs = OUTPUTS

    def __init__(self, model: ZeroSeg):
        super().__init__()
        self.model, self.multiple = model, model.config.size_multiple
        self.model.export_friendly = True
        self.eval()

    def forward(self, image: torch.Tensor):
        """image (B, 3, H, W) -> (B, K, h, w), (B, K, D), (B, D); all float32."""
        output = self.model(image)
        maps_BKL = output.soft_map.transpose(1, 2)
        return maps_BKL.unflatten(2, output.grid), output.segment_embeddings, output.image_embedding


class DenseExportModel(nn.Module):
    """image -> place_embeddings, image_embedding, of a DenseTower (zeroseg/dense/dense_tower.py)."""

    outputs = DENSE_OUTPUTS

    def __init__(self, tower: nn.Module):
        super().__init__()
        self.tower, self.multiple = tower, tower.multiple
        self.eval()

    def forward(self, image: torch.Tensor):
        """image (B, 3, H, W) -> (B, D, h, w), (B, D); all float32."""
        self.tower.export_friendly = True
        try:
            return embeddings_of(self.tower, image)
        finally:
            self.tower.export_friendly = False
