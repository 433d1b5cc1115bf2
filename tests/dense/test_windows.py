"""Sliding windows against a loop over patches, one at a time."""

import numpy as np
import pytest

from zeroseg.dense.windows import embeddings_of_windows, window_boxes, windowed_size
from zeroseg.runtime.base import Runner

MIX = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)  # (D, channels)


class Fake(Runner):
    """Embeddings that depend on the patch's pixels and on what else is in its window."""

    backend, largest_batch = "fake", None

    def __init__(self):
        self.batches = []

    def _run(self, image):
        self.batches.append(len(image))
        pooled = image.reshape(*image.shape[:2], 4, 8, 4, 8).mean((3, 5))
        pooled = pooled * (1 + image.std((1, 2, 3)))[:, None, None, None]
        places = np.einsum("bchw,dc->bdhw", pooled, MIX).astype(np.float32)
        return {"place_embeddings": places, "image_embedding": np.tanh(places).mean((2, 3))}


@pytest.mark.parametrize(
    ("size", "stride"), [((32, 32), 16), ((40, 32), 8), ((72, 56), 16), ((64, 96), 32), ((48, 200), 24)]
)
def test_windows_equal_a_brute_force_loop(size, stride):
    image = np.random.default_rng(0).standard_normal((3, *size)).astype(np.float32)
    places, whole = embeddings_of_windows(Fake(), image, 32, stride, 8)
    boxes = window_boxes(size, 32, stride)
    answers = {(y, x): Fake().run(image[None, :, y : y + 32, x : x + 32]) for y, x, _, _ in boxes}
    assert places.dtype == whole.dtype == np.float32 and places.shape == (5, size[0] // 8, size[1] // 8)
    for row in range(size[0] // 8):
        for column in range(size[1] // 8):
            seen = [
                answers[y, x]["place_embeddings"][0, :, row - y // 8, column - x // 8]
                for y, x, _, _ in boxes
                if y <= row * 8 < y + 32 and x <= column * 8 < x + 32
            ]
            assert seen, "a patch that no window covers"
            np.testing.assert_allclose(places[:, row, column], np.mean(seen, 0), atol=1e-6)
    np.testing.assert_allclose(whole, np.mean([a["image_embedding"][0] for a in answers.values()], 0), atol=1e-6)


@pytest.mark.parametrize("largest", [1, 2, 7])
def test_a_runner_gets_no_more_windows_than_it_takes(largest):
    image = np.ones((3, 64, 64), np.float32) * np.linspace(0, 1, 64, dtype=np.float32)
    expected = embeddings_of_windows(Fake(), image, 32, 16, 8)
    runner = Fake()
    runner.largest_batch = largest
    for got, wanted in zip(embeddings_of_windows(runner, image, 32, 16, 8), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert max(runner.batches) == largest and sum(runner.batches) == 9


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
