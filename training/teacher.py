"""Teachers: frozen networks that embed crops of photos (and, if they can, patches) in a text embedding space.

A teacher is named by one string:
  open_clip:ViT-L-14/openai           an open_clip image tower with a pretrained tag
  open_clip:ViT-L-14/weights.pt       the same from a local checkpoint file
  radio:c-radio_v3-b                  RADIO with its SigLIP 2 head (zeroseg.dense.radio), or radio:FILE
  timm:tf_efficientnet_lite2+lcnet_100  ImageNet classifiers with averaged logits and label embeddings (ConSE)
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from PIL import Image

from zeroseg.errors import ZerosegError


class Teacher(ABC):
    """Images in, embeddings out, in the space named `space`.

    spec         the string it was made from.
    space, dim   embedding space and its size D.
    view_size    side in pixels of the square crops `embed` takes.
    has_dense    whether `dense` works.
    fingerprint  JSON-able; equal for teachers that give equal outputs.
    """

    spec: str
    space: str
    dim: int
    view_size: int
    has_dense: bool
    fingerprint: dict

    @abstractmethod
    def embed(self, crops: torch.Tensor) -> torch.Tensor:
        """crops (B, 3, view_size, view_size) float32 RGB in [0, 1] -> (B, D) float32."""

    def prototypes(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors for a readout of kind "prototypes": (count, D), and the (D,) centre that is their origin."""
        raise ZerosegError(f"teacher {self.spec} has no classes for the prototypes; use the readout projector")

    def dense_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (H, W) in pixels that a photo of size (width, height) is resized to before `dense`."""
        raise ZerosegError(f"teacher {self.spec} has no dense maps; use views only")

    def dense(self, images: torch.Tensor) -> torch.Tensor:
        """images (B, 3, H, W) float32 RGB in [0, 1], of dense_size -> (B, h, w, D) float32."""
        raise ZerosegError(f"teacher {self.spec} has no dense maps; use views only")


def to_tensor(images: list[Image.Image | np.ndarray]) -> torch.Tensor:
    """RGB images of one size, PIL or (H, W, 3) uint8 arrays -> (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float() / 255
