"""mask_decode: from the K soft segment maps of a photo to one label per pixel at the photo's own size.

For every pixel of the photo: bilinear interpolation of the K maps (half-pixel centres, edges clamped, as
torch.nn.functional.interpolate with align_corners=False), argmax over K, then table[k]. The cost does not depend on
the number of labels: labels are looked up per segment, not per pixel.
"""

import numpy as np

from zeroseg.errors import check_array
from zeroseg.kernels import _native
from zeroseg.kernels._dispatch import always, choose_impl
from zeroseg.kernels.mask_decode import native, reference

# best first
IMPLEMENTATIONS = {"native": _native.why_not, "reference": always}


def mask_decode(
    maps: np.ndarray, table: np.ndarray, size: tuple[int, int], impl: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Decode soft maps into a label map.

    maps   (K, h, w) float32, finite; soft assignment of every place to the K segments.
    table  (K,) integers in [-1, 32767]: label of each segment, -1 for background.
    size   (H, W) of the photo, each >= 1; may be smaller or larger than (h, w).
    impl   "auto", "reference" or "native"; all return the same, up to rounding where two segments tie.

    Returns label_map (H, W) int16 and confidence (H, W) float32, the interpolated map of the winning segment (the
    lowest k wins a tie). Raises ValueError for anything else than the above.
    """
    check_array("maps", maps, ("K", "h", "w"), "float32")
    check_array("table", table, (maps.shape[0],))
    if 0 in maps.shape:
        raise ValueError(f"maps: expected no empty axis, got {maps.shape}")
    if not np.isfinite(maps).all():
        raise ValueError("maps: expected finite values, got NaN or infinity")
    if table.dtype.kind not in "iu" or table.min() < -1 or table.max() > np.iinfo(np.int16).max:
        raise ValueError(f"table: expected integers in [-1, 32767], got {table.dtype} {table.tolist()}")
    height, width = (int(side) for side in size)
    if height < 1 or width < 1:
        raise ValueError(f"size: expected (H, W) of at least 1 x 1, got {tuple(size)}")
    run = native if choose_impl("mask_decode", impl, IMPLEMENTATIONS) == "native" else reference
    return run.mask_decode(maps, table.astype(np.int16), (height, width))
