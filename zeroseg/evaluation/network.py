"""A loaded model as the protocols' `predict` function."""

from __future__ import annotations

import numpy as np

from zeroseg.dense.background import with_background
from zeroseg.errors import ZerosegError
from zeroseg.segment.encode import encode_input
from zeroseg.segment.encoded import Places, image_scores
from zeroseg.segment.prepare import network_input
from zeroseg.segment.segmenter import Segmenter


class SegmenterPredict:
    """predict(photo, size) of a Segmenter whose labels are set: the path of Segmenter.segment up to the scores.

    background: whether a dense model's background words compete with the labels.
    """

    def __init__(self, segmenter: Segmenter, background: bool = True):
        self.segmenter, self.background = segmenter, background

    def __call__(self, photo: np.ndarray, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """photo (H, W, 3) uint8 RGB; size (h, w) of the network's input, None for what Segmenter.segment would take."""
        sidecar, pack = self.segmenter.sidecar, self.segmenter.pack
        if sidecar.dense is not None and size is not None:
            raise ZerosegError(
                f"protocol groupvit: model {sidecar.name} has no segments, and has its own windows; use "
                "--protocol deployment"
            )
        encoded = encode_input(
            self.segmenter.runner, sidecar, network_input(photo, sidecar, size), size=photo.shape[:2]
        )
        if isinstance(encoded, Places):
            vectors = with_background(sidecar.dense, pack) if self.background else pack.vectors
            return {"place_scores": encoded.maps_of(vectors)}
        return {
            "segment_maps": encoded.maps,
            "segment_scores": encoded.scores(pack),
            "image_scores": image_scores(encoded, pack),
        }
