"""A loaded model as the `predict` that the protocols call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.kernels.preprocess import preprocess
from zeroseg.photos.network_size import network_size
from zeroseg.runtime.base import OUTPUTS
from zeroseg.segmenter import Segmenter


class SegmenterPredict:
    """predict(photo, size) of a Segmenter whose labels are set: its runner and its way of preparing a photo.

    background: whether a dense model's background words compete with the labels.
    """

    def __init__(self, segmenter: Segmenter, background: bool = True):
        self.segmenter, self.background = segmenter, background

    def __call__(self, photo: np.ndarray, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """photo (H, W, 3) uint8 RGB; size (h, w) of the network's input, None for what Segmenter.segment would take."""
        if self.segmenter.sidecar.dense is not None:
            return self._dense(photo, size)
        spec = self.segmenter.sidecar.input
        if size is None:
            size = network_size(photo.shape[:2], spec.short_side, spec.max_long_side, spec.multiple)
        image = preprocess(photo, size, spec.mean, spec.std)
        feed = {"image": image[None], "label_embeddings": self.segmenter.pack.vectors}
        outputs = self.segmenter.runner.run(feed)
        return {name: outputs[name][0] for name in OUTPUTS}

    def _dense(self, photo: np.ndarray, size: tuple[int, int] | None) -> dict[str, np.ndarray]:
        from zeroseg.dense.segment import place_scores

        segmenter = self.segmenter
        if size is not None:
            raise ZerosegError(
                f"protocol groupvit: model {segmenter.sidecar.name} has no segments and windows of its "
                "own; use --protocol deployment"
            )
        sidecar = segmenter.sidecar
        if not self.background:
            sidecar = replace(
                sidecar,
                dense=replace(sidecar.dense, background=(), background_vectors=sidecar.dense.background_vectors[:0]),
            )
        return {"place_scores": place_scores(segmenter.runner, sidecar, photo, segmenter.pack)[0]}
