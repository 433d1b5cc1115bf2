"""Sliding windows on the grid of places.

The photo is resized so that its sides are multiples of the patch and cut into windows at a stride that is one too (the
last of a row is shifted inwards); so the places of all windows lie on one grid, and a place's score for a label is the
mean over the windows that cover it. Scores are linear in the places' vectors: this is the mean of the unit vectors,
compared with the label. Nothing is ever labels x pixels in size; labels x places is the most.
"""

import math

import numpy as np

from zeroseg.runtime.base import Runner

_RUN_BYTES = 1 << 27  # of scores at a time
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
    """The (h, w) that a photo of size (H, W) is resized to.

    Short side to short_side with the aspect kept, unless the long side would pass max_long_side; then each side to the
    nearest multiple, and to at least one window.
    """
    scale = min(short_side / min(size), max_long_side / max(size))
    return tuple(max(window, int(side * scale / multiple + 0.5) * multiple) for side in size)


def scores_of_windows(
    runner: Runner, image: np.ndarray, label_embeddings: np.ndarray, window: int, stride: int, patch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run a dense network over every window of a photo.

    image             (3, H, W) float32, normalised; sides multiples of patch, at least window.
    label_embeddings  (N, D) float32 unit rows.
    window, stride    px, multiples of patch.

    Returns place_scores (N, H / patch, W / patch) and image_scores (N,), both float32 cosines: means over the windows.
    """
    boxes = window_boxes(image.shape[1:], window, stride)
    count, side = len(label_embeddings), window // patch
    total = np.zeros((count, image.shape[1] // patch, image.shape[2] // patch), np.float32)
    cover = np.zeros(total.shape[1:], np.float32)
    image_scores = np.zeros(count, np.float64)
    step = max(1, min(_RUN_WINDOWS, _RUN_BYTES // (4 * count * side * side), runner.largest_batch or _RUN_WINDOWS))
    for start in range(0, len(boxes), step):
        part = boxes[start : start + step]
        batch = np.stack([image[:, y : y + window, x : x + window] for y, x, _, _ in part])
        output = runner.run({"image": batch, "label_embeddings": label_embeddings})
        for scores, (y, x, _, _) in zip(output["place_scores"], part, strict=True):
            place = np.s_[y // patch : y // patch + side, x // patch : x // patch + side]
            total[(slice(None), *place)] += scores
            cover[place] += 1
        image_scores += output["image_scores"].sum(0)
    total /= cover
    return total, (image_scores / len(boxes)).astype(np.float32)
