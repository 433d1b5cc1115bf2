"""A network with the project's inputs and outputs, as the `predict` that the protocols call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from zeroseg.image import network_size
from zeroseg.kernels.preprocess import preprocess

OUTPUTS = ("segment_maps", "segment_scores", "image_scores")


@dataclass
class NetworkPredict:
    """predict(photo, size) over a runner.

    run: feed -> outputs, arrays by name with a batch axis: image (1, 3, h, w) and label_embeddings (N, D) float32 in,
    OUTPUTS out. vectors: (N, D) float32 unit rows. input: the sidecar's "input": short_side, multiple, max_long_side,
    mean, std.
    """

    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    vectors: np.ndarray
    input: Mapping

    def __call__(self, photo: np.ndarray, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
        """photo (H, W, 3) uint8 RGB; size (h, w) of the network's input, the sidecar's rule for None."""
        if size is None:
            limits = (self.input[key] for key in ("short_side", "max_long_side", "multiple"))
            size = network_size(photo.shape[:2], *limits)
        image = preprocess(photo, size, self.input["mean"], self.input["std"])
        outputs = self.run({"image": image[None], "label_embeddings": self.vectors})
        return {name: np.asarray(outputs[name])[0] for name in OUTPUTS}
