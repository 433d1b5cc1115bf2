"""preprocess: from a photo to the network's input in one step: antialiased resize, [0, 1], (x - mean) / std, CHW."""

from collections.abc import Sequence

import numpy as np

from zeroseg.errors import check_array
from zeroseg.kernels import _native
from zeroseg.kernels._dispatch import always, choose_impl
from zeroseg.kernels.preprocess import native, reference

# best first
IMPLEMENTATIONS = {"native": _native.why_not, "reference": always}


def preprocess(
    image: np.ndarray,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    impl: str = "auto",
    *,
    order: str = "rgb",
    dtype: str = "float32",
) -> np.ndarray:
    """Resize and normalise a photo.

    image     (H, W, 3) uint8, any strides, each side >= 1.
    size      (h, w) of the result, each >= 1.
    mean, std three values each, for RGB in [0, 1]; std positive.
    impl      "auto", "reference" or "native"; all return the same to within one grey level, 1 / (255 std).
    order     "rgb", or "bgr" for a photo of OpenCV's; the result is RGB.
    dtype     "float32" or "float16" of the result.

    Returns (3, h, w), contiguous. Raises ValueError for anything else than the above.
    """
    check_array("image", image, ("H", "W", 3), "uint8")
    if 0 in image.shape:
        raise ValueError(f"image: expected no empty axis, got {image.shape}")
    height, width = (int(side) for side in size)
    if height < 1 or width < 1:
        raise ValueError(f"size: expected (h, w) of at least 1 x 1, got {tuple(size)}")
    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    check_array("mean", mean, (3,))
    check_array("std", std, (3,))
    if not (std > 0).all():
        raise ValueError(f"std: expected positive values, got {std.tolist()}")
    if order not in ("rgb", "bgr"):
        raise ValueError(f"order: expected rgb or bgr, got {order!r}")
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype: expected float32 or float16, got {dtype!r}")
    if order == "bgr":
        image = image[..., ::-1]
    run = native if choose_impl("preprocess", impl, IMPLEMENTATIONS) == "native" else reference
    return run.preprocess(image, (height, width), mean, std, dtype)
