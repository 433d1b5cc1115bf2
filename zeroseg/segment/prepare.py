"""Turn an image into the network's input."""

import numpy as np

from zeroseg.dense.windows import windowed_size
from zeroseg.kernels.preprocess import preprocess
from zeroseg.photos.network_size import network_size
from zeroseg.sidecar import Sidecar


def network_input(image: np.ndarray, sidecar: Sidecar, size: tuple[int, int] | None = None) -> np.ndarray:
    """image (H, W, 3) uint8 RGB -> (3, h, w) float32, resized and normalised by the sidecar's rules.

    size: (h, w) of the network's input, multiples of the sidecar's input.multiple; None for the model's own rule.
    """
    spec = sidecar.input
    if size is None:
        rule = (image.shape[:2], spec.short_side, spec.max_long_side, spec.multiple)
        size = network_size(*rule) if sidecar.dense is None else windowed_size(*rule, sidecar.dense.window)
    return preprocess(image, size, spec.mean, spec.std)
