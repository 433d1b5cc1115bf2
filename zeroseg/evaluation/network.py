"""A loaded model as the `predict` that the protocols call."""

from __future__ import annotations

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.image import network_size
from zeroseg.kernels.preprocess import preprocess
from zeroseg.runtime.base import OUTPUTS
from zeroseg.segmenter import Segmenter


class SegmenterPredict:
    """predict(photo, size) of a Segmenter whose labels are set: its runner and its way of preparing a photo."""

    def __init__(self, segmenter: Segmenter):
        if segmenter.sidecar.dense is not None:
            raise ZerosegError(f"model {segmenter.sidecar.name}: evaluation knows models with segments only, not "
                               "open_clip's")
        self.segmenter = segmenter

    def __call__(self, photo: np.ndarray, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """photo (H, W, 3) uint8 RGB; size (h, w) of the network's input, None for what Segmenter.segment would take."""
        spec = self.segmenter.sidecar.input
        if size is None:
            size = network_size(photo.shape[:2], spec.short_side, spec.max_long_side, spec.multiple)
        image = preprocess(photo, size, spec.mean, spec.std)
        feed = {"image": image[None], "label_embeddings": self.segmenter.pack.vectors}
        outputs = self.segmenter.runner.run(feed)
        return {name: outputs[name][0] for name in OUTPUTS}
