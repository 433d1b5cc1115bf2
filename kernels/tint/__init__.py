"""tint: lay the labels' colours over a photo and draw their outlines, the last step before a person looks at it.

A pixel with label l becomes round((image (255 - a) + color[l] a) / 255); one that has another label, or none, within
the outline's reach above, below, left or right of it becomes color[l]. Background stays as it is.
"""

import numpy as np

from zeroseg.errors import check_array
from zeroseg.kernels import _native
from zeroseg.kernels._dispatch import always, choose_impl
from zeroseg.kernels.tint import native, reference

# best first
IMPLEMENTATIONS = {"native": _native.why_not, "reference": always}


def tint(
    image: np.ndarray, label_map: np.ndarray, colors: np.ndarray, alpha: float, outline_px: int = 1, impl: str = "auto"
) -> np.ndarray:
    """Draw a label map over a photo.

    image       (H, W, 3) uint8, RGB or any other order that colors has too.
    label_map   (H, W) int16 in [-1, N - 1], -1 for background.
    colors      (N, 3) uint8.
    alpha       opacity in [0, 1], used in steps of 1/255.
    outline_px  reach of the outline in pixels: neighbours 1 and outline_px away are looked at; 0 for none.
    impl        "auto", "reference" or "native"; all return the same.

    Returns (H, W, 3) uint8, an array of its own. Raises ValueError for anything else than the above.
    """
    check_array("image", image, ("H", "W", 3), "uint8")
    check_array("label_map", label_map, image.shape[:2], "int16")
    check_array("colors", colors, ("N", 3), "uint8")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected 0 to 1, got {alpha}")
    if outline_px < 0:
        raise ValueError(f"outline_px: expected 0 or more, got {outline_px}")
    if 0 in label_map.shape:
        return image.copy()
    if label_map.min() < -1 or label_map.max() >= len(colors):
        raise ValueError(
            f"label_map: expected values in [-1, {len(colors) - 1}], got {label_map.min()} to {label_map.max()}"
        )
    run = native if choose_impl("tint", impl, IMPLEMENTATIONS) == "native" else reference
    return run.tint(image, label_map, colors, round(alpha * 255), outline_px)
