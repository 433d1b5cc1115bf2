"""What is exported: the model in evaluation mode with the face that every runner knows (zeroseg/runtime/base.py)."""

import torch
from torch import nn

from zeroseg.model.zeroseg import ZeroSeg


class ExportModel(nn.Module):
    """image, label_embeddings -> segment_maps, segment_scores, image_scores. Takes the model over: canonical attention.

    B batch, K segments, N labels, D embedding dim; h = H / stride, w = W / stride.
    """

    def __init__(self, model: ZeroSeg):
        super().__init__()
        self.model = model
        self.model.export_friendly = True
        self.eval()

    def forward(self, image: torch.Tensor, label_embeddings: torch.Tensor):
        """image (B, 3, H, W) and label_embeddings (N, D) -> (B, K, h, w), (B, K, N), (B, N); all float32."""
        output = self.model(image)
        segment_scores, image_scores = self.model.score(output, label_embeddings)
        maps_BKL = output.soft_map.transpose(1, 2)
        return maps_BKL.unflatten(2, output.grid), segment_scores, image_scores
