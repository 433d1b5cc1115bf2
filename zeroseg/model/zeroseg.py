"""ZeroSeg: encoder, segmentation head and readout in one module (arXiv 2306.00450).

B batch, L places (M of them kept while masking), K segments, C head width, D embedding dim, N labels.
"""

from dataclasses import dataclass

import torch
from torch import nn

from zeroseg.config import ModelConfig
from zeroseg.errors import check_array
from zeroseg.model.attention import use_canonical_attention
from zeroseg.model.encoder import Encoder, PatchTokens, mask_from_noise, take_places
from zeroseg.model.grouping import StageMaps
from zeroseg.model.head import SegmentationHead
from zeroseg.model.readout import StemContext, build_readout
from zeroseg.model.reconstruction import ReconstructionHead, reconstruction_loss
from zeroseg.model.stem import ConvStem, HybridTokens, StemFeatures
from zeroseg.sidecar import Scoring


@dataclass
class ZeroSegOutput:
    """segment_tokens (B, K, C); segment_embeddings (B, K, D); image_embedding (B, D); patch_tokens (B, L, width), the
    encoder's; soft_map (B, L, K), the product of the stages' soft maps, rows sum to 1; stage_maps, (hard, soft) of each
    stage; grid (h, w) with h * w = L. While masking, L is the number of kept places, in the masking's order, and mask
    (B, h * w) float32 has 1 where a place was removed; else mask is None. reconstruction_loss: a scalar, or None.
    """

    segment_tokens: torch.Tensor
    segment_embeddings: torch.Tensor
    image_embedding: torch.Tensor
    patch_tokens: torch.Tensor
    soft_map: torch.Tensor
    stage_maps: list[StageMaps]
    grid: tuple
    reconstruction_loss: torch.Tensor | None = None
    mask: torch.Tensor | None = None


class ZeroSeg(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        depth = config.depth
        blocks = depth + sum(config.head_depths)
        rates = [config.drop_path * i / (blocks - 1) for i in range(blocks)]
        self.stem = ConvStem(config) if config.encoder == "hybrid" else None
        self.tokens = HybridTokens(config, self.stem) if self.stem is not None else PatchTokens(config)
        self.encoder = Encoder(config, rates[:depth])
        self.head = SegmentationHead(config, rates[depth:])
        self.readout = build_readout(config, self.stem)
        shared = config.projector_shared or config.readout != "projector"
        self.image_readout = None if shared else build_readout(config, self.stem)
        self.reconstruction = ReconstructionHead(config) if config.reconstruction else None
        self._export_friendly = False

    @property
    def export_friendly(self) -> bool:
        """True: canonical softmax(QK)V attention in place of the fused kernel, so that exported graphs stay plain."""
        return self._export_friendly

    @export_friendly.setter
    def export_friendly(self, value: bool) -> None:
        self._export_friendly = value
        use_canonical_attention(self, value)

    def forward(
        self,
        image: torch.Tensor | None,
        *,
        stem_features: tuple | None = None,
        mask_noise: torch.Tensor | None = None,
        reconstruct: bool = False,
    ) -> ZeroSegOutput:
        """image (B, 3, H, W) float32, normalised, H and W multiples of config.size_multiple.

        stem_features (fine, coarse) replaces running the conv stem; image may then be None.
        mask_noise (B, h * w) float32 removes the places with the largest noise. While training it is drawn when not
        given, if mask_ratio > 0; in evaluation nothing is removed unless it is given.
        reconstruct adds the MAE loss, which needs the image and masking.
        """
        features = self._stem_features(image, stem_features)
        x_BLC, grid = self.tokens(features if self.stem is not None else image)
        masking = None
        if mask_noise is None and self.training and self.config.mask_ratio > 0:
            mask_noise = torch.rand(x_BLC.shape[:2], device=x_BLC.device)
        if mask_noise is not None:
            check_array("mask_noise", mask_noise, tuple(x_BLC.shape[:2]), "float32")
            masking = mask_from_noise(mask_noise, self.config.mask_ratio)
            x_BLC = take_places(x_BLC, masking.keep)
        encoded_BTC = self.encoder(x_BLC)
        patches_BLC = encoded_BTC[:, int(self.config.class_token) :]
        head = self.head(patches_BLC)
        stem = StemContext(features, self.stem, masking and masking.keep) if features is not None else None
        loss = self._reconstruct(image, encoded_BTC, masking, grid) if reconstruct else None
        return ZeroSegOutput(
            segment_tokens=head.tokens,
            segment_embeddings=self.readout(head.tokens, head.soft_map, stem),
            image_embedding=self._image_embedding(head, stem),
            patch_tokens=patches_BLC,
            soft_map=head.soft_map,
            stage_maps=head.stage_maps,
            grid=grid,
            reconstruction_loss=loss,
            mask=masking and masking.mask,
        )

    def scoring(self) -> Scoring:
        """How the embeddings are scored against labels: the centre of a prototype readout, and the config's share."""
        centred = self.config.readout == "prototypes"
        return Scoring(self.readout.centre.cpu().float().numpy() if centred else None, self.config.score_share)

    def _image_embedding(self, head, stem):
        """z = MLP(AvgPool(segments)) (GroupViT eq. 2); the mean token's map covers every place."""
        readout = self.readout if self.image_readout is None else self.image_readout
        everywhere_BL1 = torch.ones_like(head.soft_map[:, :, :1])
        return readout(head.tokens.mean(dim=1, keepdim=True), everywhere_BL1, stem)[:, 0]

    def _stem_features(self, image, given):
        if self.stem is None:
            if given is not None:
                raise ValueError("stem_features: expected None, this model's encoder has no convolutional stem")
            self._check_image(image)
            return None
        if given is not None:
            return StemFeatures(*given)
        self._check_image(image)
        return self.stem(image)

    def _check_image(self, image):
        if torch.compiler.is_compiling():  # includes export, where sides are symbols
            return
        check_array("image", image, ("B", 3, "H", "W"), "float32")
        multiple = self.config.size_multiple
        if image.shape[2] % multiple or image.shape[3] % multiple:
            raise ValueError(f"image: expected sides that are multiples of {multiple}, got {tuple(image.shape[2:])}")

    def _reconstruct(self, image, encoded_BTC, masking, grid):
        if self.reconstruction is None or masking is None or image is None:
            why = "no image" if image is None else "no mask" if masking is None else "no reconstruction head"
            raise ValueError(f"reconstruct: expected an image, a mask and a reconstruction head, got {why}")
        pred_BLP = self.reconstruction(encoded_BTC, masking, grid)
        config = self.config
        return reconstruction_loss(
            pred_BLP, image, masking.mask, patch=config.patch_size, normalize_pixels=config.normalize_pixels
        )
