"""A photo by a dense network: windows, background words, one label per pixel. NumPy only; the network is any runner."""

import time
from dataclasses import dataclass, field

import numpy as np

from zeroseg.artifact import Sidecar
from zeroseg.dense.windows import scores_of_windows, window_boxes, windowed_size
from zeroseg.errors import ZerosegError
from zeroseg.kernels.mask_decode import dense_decode
from zeroseg.kernels.preprocess import preprocess
from zeroseg.runtime.base import Runner
from zeroseg.segmentation import Segmentation
from zeroseg.words.pack import LabelPack


@dataclass
class DenseSegmentation(Segmentation):
    """A Segmentation without segments: every pixel was compared with every label.

    confidence      (H, W) float32, the cosine of the best label or background word.
    segment_labels  (N,) int16, 0 ... N - 1; segment_scores (1, N) float32, every label's best place.
    threshold       the cosine below which a pixel is background.
    place_scores    (N, h, w) float32, cosine of every place and label.
    """

    place_scores: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))

    def score_of(self, index: int) -> float:
        return float(self.segment_scores[0, index])


def place_scores(runner: Runner, sidecar: Sidecar, photo: np.ndarray, pack: LabelPack) -> tuple[np.ndarray, np.ndarray]:
    """(N + M, h, w) cosines of every place with the N labels and then the M background words, and (N + M,) of the
    photo. photo (H, W, 3) uint8 RGB.
    """
    return _scores(runner, sidecar, network_image(sidecar, photo), with_background(sidecar, pack))


def network_image(sidecar: Sidecar, photo: np.ndarray) -> np.ndarray:
    """The photo (H, W, 3) uint8 RGB as (3, h, w) float32, resized for windows and normalised."""
    spec, dense = sidecar.input, sidecar.dense
    size = windowed_size(photo.shape[:2], spec.short_side, spec.max_long_side, spec.multiple, dense.window)
    return preprocess(photo, size, spec.mean, spec.std)


def photo_windows(sidecar: Sidecar, photo: np.ndarray) -> np.ndarray:
    """What the network sees of a photo (H, W, 3) uint8 RGB: its windows, row by row, (B, 3, window, window) float32."""
    image, dense = network_image(sidecar, photo), sidecar.dense
    boxes = window_boxes(image.shape[1:], dense.window, dense.stride)
    return np.stack([image[:, y : y + h, x : x + w] for y, x, h, w in boxes])


def with_background(sidecar: Sidecar, pack: LabelPack) -> np.ndarray:
    """(N + M, D) float32: the pack's vectors, then those of the background words that are no labels of the pack."""
    asked = {name.strip().lower() for name in pack.names}
    rows = [i for i, word in enumerate(sidecar.dense.background) if word.lower() not in asked]
    return np.concatenate([pack.vectors, sidecar.dense.background_vectors[rows]])


def segment_dense(
    runner: Runner, sidecar: Sidecar, pack: LabelPack, photo: np.ndarray, threshold: float, load_ms: float = 0.0
) -> DenseSegmentation:
    """Label every pixel of photo (H, W, 3) uint8 RGB; see Segmenter.segment."""
    clock = [time.perf_counter()]
    image, vectors = network_image(sidecar, photo), with_background(sidecar, pack)
    clock.append(time.perf_counter())
    scores = _scores(runner, sidecar, image, vectors)[0]
    clock.append(time.perf_counter())
    label_map, confidence = decode(scores, len(pack), photo.shape[:2], threshold)
    clock.append(time.perf_counter())
    timings = {
        stage: 1000 * (end - start) for stage, start, end in zip(("preprocess", "network", "decode"), clock, clock[1:])
    }
    asked = scores[: len(pack)]
    return DenseSegmentation(
        image=photo,
        label_map=label_map,
        confidence=confidence,
        labels=list(pack.names),
        segment_labels=np.arange(len(pack), dtype=np.int16),
        segment_scores=asked.max((1, 2))[None],
        threshold=float(threshold),
        model=sidecar.name,
        marks=pack.marks,
        nearest=pack.nearest,
        timings_ms={"load": load_ms, **timings},
        place_scores=asked,
    )


def decode(scores: np.ndarray, labels: int, size: tuple[int, int], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """label_map (H, W) int16, -1 background, and confidence (H, W) of scores (N + M, h, w); the first `labels` rows are
    labels, the others background words.
    """
    label_map, confidence = dense_decode(scores, size, threshold=threshold)
    label_map[label_map >= labels] = -1
    return label_map, confidence


def _scores(runner, sidecar, image, vectors):
    dense = sidecar.dense
    scores = scores_of_windows(runner, image, vectors, dense.window, dense.stride, sidecar.stride)
    if not np.isfinite(scores[0]).all():
        raise ZerosegError(f"model {sidecar.name} gave scores that are not finite; the weights may be damaged")
    return scores
