"""The reference of tint: NumPy and Pillow, in strips, so that a large photo needs no further copies of itself."""

import numpy as np
from PIL import Image

_STRIP_PIXELS = 1 << 18


def tint(image: np.ndarray, label_map: np.ndarray, colors: np.ndarray, alpha_255: int, outline_px: int) -> np.ndarray:
    """Arguments and result of zeroseg.kernels.tint, alpha in [0, 255]."""
    rgba = np.zeros((len(colors) + 1, 4), np.uint8)  # the last entry is the background's, index -1
    rgba[:-1, :3], rgba[:-1, 3] = colors, alpha_255
    edge = outline(label_map, outline_px)
    out = np.empty(image.shape, np.uint8)
    step = max(1, _STRIP_PIXELS // image.shape[1])
    for top in range(0, image.shape[0], step):
        rows = slice(top, top + step)
        layer = np.take(rgba.view(np.uint32)[:, 0], label_map[rows], mode="wrap")  # one number per pixel: fast
        layer = layer.view(np.uint8).reshape(*label_map[rows].shape, 4)
        np.putmask(layer[..., 3], edge[rows], 255)
        layer, strip = Image.fromarray(layer), Image.fromarray(np.ascontiguousarray(image[rows]))
        strip.paste(layer, mask=layer)
        out[rows] = np.asarray(strip)
    return out


def outline(label_map: np.ndarray, reach_px: int) -> np.ndarray:
    """Pixels of a label that have another label, or none, 1 or reach_px away to a side, (H, W) bool."""
    edge = np.zeros(label_map.shape, bool)
    for distance in {1, reach_px} if reach_px else ():
        down = label_map[distance:] != label_map[:-distance]
        edge[distance:] |= down
        edge[:-distance] |= down
        across = label_map[:, distance:] != label_map[:, :-distance]
        edge[:, distance:] |= across
        edge[:, :-distance] |= across
    edge &= label_map >= 0
    return edge
