"""Sliding windows on the patch grid.

The photo is resized so that its sides are multiples of the patch. It is cut into windows at a stride that is also a
multiple of the patch (the last window of a row is shifted inwards). So the patches of all windows lie on one grid, and
a patch's embedding is the mean over the windows that cover it.
"""

import math

import numpy as np

from zeroseg.runtime.base import Runner

_RUN_WINDOWS = 16


def window_boxes(size: tuple[int, int], window: int, stride: int) -> list[tuple[int, int, int, int]]:
    """(y, x, h, w) of windows over a picture of size (H, W), row by row; a side below the window is one window."""
    starts = []
    for side in size:
        count = max(math.ceil((side - window) / stride), 0) + 1
        starts.append([max(min(i * stride, side - window), 0) for i in range(count)])
    h, w = min(window, size[0]), min(window, size[1])
    return [(y, x, h, w) for y in starts[0] for x in starts[1]]


def windowed_size(
    size: tuple[int, int], short_side: int, max_long_side: int, multiple: int, window: int
) -> tuple[int, int]:
    """The (h, w) to which a photo of size (H, W) is resized.

    The short side becomes short_side and the aspect is kept, unless the long side would exceed max_long_side. Then each
    side is rounded to the nearest multiple, and to at least one window.
    """
    scale = min(short_side / min(size), max_long_side / max(size))
    return tuple(max(window, int(side * scale / multiple + 0.5) * multiple) for side in size)


def embeddings_of_windows(
    runner: Runner, image: np.ndarray, window: int, stride: int, patch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run a dense network over every window of an image.

    image           (3, H, W) float32, normalised; sides multiples of patch, at least window.
    window, stride  px, multiples of patch.

    Returns the patches' embeddings (D, H / patch, W / patch) and the image's (D,), both float32: means over the
    windows. A cosine is linear in the embedding, so a label's score is the mean of its scores in the windows.
    """
    boxes = window_boxes(image.shape[1:], window, stride)
    side, total, whole = window // patch, None, 0
    cover = np.zeros((image.shape[1] // patch, image.shape[2] // patch), np.float32)
    step = min(_RUN_WINDOWS, runner.largest_batch or _RUN_WINDOWS)
    for start in range(0, len(boxes), step):
        part = boxes[start : start + step]
        output = runner.run(np.stack([image[:, y : y + window, x : x + window] for y, x, _, _ in part]))
        if total is None:
            total = np.zeros((output["place_embeddings"].shape[1], *cover.shape), np.float32)
        for embeddings, (y, x, _, _) in zip(output["place_embeddings"], part, strict=True):
            place = np.s_[y // patch : y // patch + side, x // patch : x // patch + side]
            total[(slice(None), *place)] += embeddings
            cover[place] += 1
        whole = whole + output["image_embedding"].sum(0, dtype=np.float64)
    return total / cover, (whole / len(boxes)).astype(np.float32)


def image_windows(image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """The windows of image (3, H, W), row by row: (B, 3, window, window) float32."""
    boxes = window_boxes(image.shape[1:], window, stride)
    return np.stack([image[:, y : y + h, x : x + w] for y, x, h, w in boxes])
