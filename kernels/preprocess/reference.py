"""The reference of preprocess: Pillow's bilinear resize, then one multiply and add per value.

Pillow widens the triangle filter by the scale when it shrinks (antialiasing) and rounds to uint8 after each of its
two passes, so the result is a picture like any other; training resizes the same way.
"""

import numpy as np
from PIL import Image


def preprocess(
    image: np.ndarray, size: tuple[int, int], mean: np.ndarray, std: np.ndarray, dtype: str = "float32"
) -> np.ndarray:
    """image (H, W, 3) uint8, size (h, w), mean and std (3,) float32 -> (3, h, w) of that dtype."""
    height, width = size
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    scale = 1 / (255 * std)
    out = np.empty((3, height, width), np.float32)
    for channel in range(3):
        np.multiply(resized[..., channel], scale[channel], out=out[channel])
        out[channel] -= mean[channel] / std[channel]
    return out.astype(dtype, copy=False)
