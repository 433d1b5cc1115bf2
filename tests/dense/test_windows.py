"""Sliding windows against a loop over places, one at a time."""

import numpy as np
import pytest

from zeroseg.dense.windows import scores_of_windows, window_boxes, windowed_size
from zeroseg.runtime.base import Runner, TensorSpec


class Fake(Runner):
    """Place scores that depend on the place's pixels and on what else is in its window."""

    backend = "fake"

    def inputs(self):
        return {"image": TensorSpec(("B", 3, "H", "W"), "float32"), "label_embeddings": TensorSpec(("N", 3), "float32")}

    def _run(self, feed):
        pooled = feed["image"].reshape(*feed["image"].shape[:2], 4, 8, 4, 8).mean((3, 5))
        pooled = pooled * (1 + feed["image"].std((1, 2, 3)))[:, None, None, None]
        scores = np.einsum("bchw,nc->bnhw", pooled, feed["label_embeddings"]).astype(np.float32)
        return {"place_scores": scores, "image_scores": scores.mean((2, 3))}


@pytest.mark.parametrize(
    ("size", "stride"), [((32, 32), 16), ((40, 32), 8), ((72, 56), 16), ((64, 96), 32), ((48, 200), 24)]
)
def test_windows_equal_a_brute_force_loop(size, stride):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((3, *size)).astype(np.float32)
    labels = rng.standard_normal((5, 3)).astype(np.float32)
    scores, image_scores = scores_of_windows(Fake(), image, labels, 32, stride, 8)
    boxes = window_boxes(size, 32, stride)
    answers = {
        (y, x): Fake().run({"image": image[None, :, y : y + 32, x : x + 32], "label_embeddings": labels})
        for y, x, _, _ in boxes
    }
    for row in range(size[0] // 8):
        for column in range(size[1] // 8):
            seen = [
                answers[y, x]["place_scores"][0, :, row - y // 8, column - x // 8]
                for y, x, _, _ in boxes
                if y <= row * 8 < y + 32 and x <= column * 8 < x + 32
            ]
            assert seen, "a place that no window covers"
            np.testing.assert_allclose(scores[:, row, column], np.mean(seen, 0), atol=1e-6)
    np.testing.assert_allclose(image_scores, np.mean([a["image_scores"][0] for a in answers.values()], 0), atol=1e-6)


def test_many_labels_run_few_windows_at_a_time(monkeypatch):
    from zeroseg.dense import windows

    image, labels = np.ones((3, 64, 64), np.float32), np.eye(3, dtype=np.float32)
    image[0] *= np.linspace(0, 1, 64, dtype=np.float32)
    expected = scores_of_windows(Fake(), image, labels, 32, 16, 8)
    monkeypatch.setattr(windows, "_RUN_BYTES", 1)
    for got, wanted in zip(scores_of_windows(Fake(), image, labels, 32, 16, 8), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (336, 448)),
        ((640, 480), (448, 336)),
        ((336, 500), (336, 496)),
        ((100, 3000), (224, 2048)),
        ((10, 10), (336, 336)),
    ],
)
def test_photo_is_resized_to_whole_places_and_at_least_a_window(size, expected):
    assert windowed_size(size, 336, 2048, 16, 224) == expected
