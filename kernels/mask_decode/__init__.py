"""mask_decode: from the K soft segment maps of a photo to one label per pixel at the photo's own size.

For every pixel of the photo: bilinear interpolation of the K maps (half-pixel centres, edges clamped, as
torch.nn.functional.interpolate with align_corners=False), argmax over K, then table[k]. The cost does not depend on
the number of labels: labels are looked up per segment, not per pixel. dense_decode is the same on maps that stand for
the labels themselves. With the photo as guide the maps are filtered by it first, so that masks follow its edges
(guided_reference.py has the formula).
"""

from typing import NamedTuple

import numpy as np

from zeroseg.errors import check_array
from zeroseg.kernels import _native
from zeroseg.kernels._dispatch import always, choose_impl
from zeroseg.kernels.mask_decode import guided_native, guided_reference, native, reference

# best first
IMPLEMENTATIONS = {"native": _native.why_not, "reference": always}
LABEL_DTYPES = ("int16", "uint8", "uint16")


class Overlay(NamedTuple):
    """The photo, to be returned with the labels' colours laid over it.

    image   (H, W, 3) uint8, RGB or any other order that colors has too.
    colors  (N, 3) uint8; pixels with a label of N or more, or background, stay as they are.
    alpha   opacity in [0, 1], used in steps of 1/255: round((image (255 - a) + color a) / 255).
    """

    image: np.ndarray
    colors: np.ndarray
    alpha: float

    @property
    def alpha_255(self) -> int:
        return round(self.alpha * 255)


def mask_decode(
    maps: np.ndarray,
    table: np.ndarray,
    size: tuple[int, int],
    impl: str = "auto",
    *,
    guide: np.ndarray | None = None,
    label_dtype: str = "int16",
    overlay: Overlay | None = None,
) -> tuple[np.ndarray, ...]:
    """Decode soft maps into a label map.

    maps         (K, h, w) float32, finite; soft assignment of every place to the K segments.
    table        (K,) integers: label of each segment, -1 for background.
    size         (H, W) of the photo, each >= 1; may be smaller or larger than (h, w).
    impl         "auto", "reference" or "native"; all return the same, up to rounding where two segments tie.
    guide        the photo, (H, W, 3) uint8, channels in any order: the maps then follow its edges. None: bilinear.
    label_dtype  "int16" (labels up to 32767), "uint8" (up to 254) or "uint16" (up to 65534); in the last two
                 background is the dtype's largest value.
    overlay      if given, the tinted photo is made in the same pass.

    Returns label_map (H, W) of label_dtype and confidence (H, W) float32, the interpolated map of the winning segment
    (the lowest k wins a tie), with a guide the filtered one, cut to [0, 1]; with an overlay also the picture,
    (H, W, 3) uint8. Raises ValueError for anything else than the above.
    """
    _check_maps("maps", maps, ("K", "h", "w"))
    check_array("table", table, (maps.shape[0],))
    largest = _largest_label(label_dtype)
    if table.dtype.kind not in "iu" or table.min() < -1 or table.max() > largest:
        raise ValueError(f"table: expected integers in [-1, {largest}], got {table.dtype} {table.tolist()}")
    size = _checked_size(size)
    _check_overlay(overlay, size)
    table = table.astype(np.int32)
    if guide is None:
        return _run("mask_decode", impl)(maps, table, size, label_dtype, -np.inf, overlay)
    check_array("guide", guide, (*size, 3), "uint8")
    run = {"native": guided_native, "reference": guided_reference}[choose_impl("mask_decode", impl, IMPLEMENTATIONS)]
    return run.guided_decode(maps, table, guide, label_dtype, -np.inf, overlay)


def dense_decode(
    logits: np.ndarray,
    size: tuple[int, int],
    impl: str = "auto",
    *,
    threshold: float = -np.inf,
    label_dtype: str = "int16",
    overlay: Overlay | None = None,
) -> tuple[np.ndarray, ...]:
    """Decode per-patch label logits, such as those of CLIP's dense features; labels stream, one map at a time.

    logits     (N, h, w) float32, finite; N at most the largest label plus one.
    threshold  pixels whose best interpolated logit is lower become background.

    The rest, and what is returned, as in mask_decode with segment k being label k; confidence is the best logit.
    """
    _check_maps("logits", logits, ("N", "h", "w"))
    largest = _largest_label(label_dtype)
    if len(logits) > largest + 1:
        raise ValueError(f"logits: expected at most {largest + 1} labels for {label_dtype}, got {len(logits)}")
    if np.isnan(threshold):
        raise ValueError("threshold: expected a number, got NaN")
    size = _checked_size(size)
    _check_overlay(overlay, size)
    return _run("dense_decode", impl)(logits, None, size, label_dtype, threshold, overlay)


def _run(op: str, impl: str):
    return {"native": native, "reference": reference}[choose_impl(op, impl, IMPLEMENTATIONS)].mask_decode


def _largest_label(label_dtype: str) -> int:
    if label_dtype not in LABEL_DTYPES:
        raise ValueError(f"label_dtype: expected one of {', '.join(LABEL_DTYPES)}, got {label_dtype!r}")
    return {"int16": 32767, "uint8": 254, "uint16": 65534}[label_dtype]


def _check_maps(name: str, maps: np.ndarray, axes: tuple[str, ...]) -> None:
    check_array(name, maps, axes, "float32")
    if 0 in maps.shape:
        raise ValueError(f"{name}: expected no empty axis, got {maps.shape}")
    if not np.isfinite(maps).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    height, width = (int(side) for side in size)
    if height < 1 or width < 1:
        raise ValueError(f"size: expected (H, W) of at least 1 x 1, got {tuple(size)}")
    return height, width


def _check_overlay(overlay: Overlay | None, size: tuple[int, int]) -> None:
    if overlay is None:
        return
    check_array("overlay.image", overlay.image, (*size, 3), "uint8")
    check_array("overlay.colors", overlay.colors, ("N", 3), "uint8")
    if not 0 <= overlay.alpha <= 1:
        raise ValueError(f"overlay.alpha: expected 0 to 1, got {overlay.alpha}")
