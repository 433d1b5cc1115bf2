"""Scores over time: the formula by loops, what starts it afresh, and colours that stay."""

import math

import numpy as np
import pytest

from zeroseg.live.smoothing import SmoothingRunner, carry_scores

B, K, N, H, W = 1, 4, 3, 5, 7


def maps(rng):
    logits = rng.normal(size=(B, K, H, W)) * 3
    return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)


class Fixed:
    """A runner that gives what it is told, in turn."""

    backend = "fixed"

    def __init__(self, *outputs):
        self.outputs = list(outputs)

    def inputs(self):
        from zeroseg.runtime.base import TensorSpec

        return {"image": TensorSpec(("B", 3, "H", "W"), "float32"), "label_embeddings": TensorSpec(("N", 2), "float32")}

    def run(self, feed):
        m, scores = self.outputs.pop(0)
        return {"segment_maps": m, "segment_scores": scores, "image_scores": scores.max(1)}


def test_formula_by_loops():
    rng = np.random.default_rng(0)
    now, then = maps(rng), maps(rng)
    scores, old = rng.normal(size=(2, B, K, N)).astype(np.float32)
    expected = np.zeros((B, K, N))
    for k in range(K):
        overlap = [
            sum(float(now[0, k, y, x]) * float(then[0, j, y, x]) for y in range(H) for x in range(W)) for j in range(K)
        ]
        for n in range(N):
            carried = sum(overlap[j] * float(old[0, j, n]) for j in range(K)) / sum(overlap)
            expected[0, k, n] = 0.3 * float(scores[0, k, n]) + 0.7 * carried
    assert carry_scores(scores, now, old, then, 0.7) == pytest.approx(expected, abs=1e-5)


def test_segments_that_swap_numbers_keep_their_scores():
    """Segment 0 of the last frame is segment 1 of this one: its score goes with its place."""
    then = np.zeros((1, 2, 2, 2), np.float32)
    then[0, 0, 0] = then[0, 1, 1] = 1
    old = np.array([[[1.0], [0.0]]], np.float32)
    carried = carry_scores(np.zeros((1, 2, 1), np.float32), then[:, ::-1].copy(), old, then, 1.0)
    assert carried.ravel().tolist() == [0, 1]


def feed(runner, now, labels):
    runner.now = now
    image = np.zeros((1, 3, 2, 2), np.float32)
    return runner.run({"image": image, "label_embeddings": labels})["segment_scores"]


def test_time_constant_is_in_seconds_and_labels_start_afresh():
    still = np.ones((1, 1, 1, 1), np.float32)
    one, zero = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
    words, others = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    runner = SmoothingRunner(Fixed((still, one), (still, zero), (still, zero), (still, zero), (still, one)), tau_s=0.5)
    assert feed(runner, 0.0, words) == 1.0
    assert feed(runner, 0.5, words) == pytest.approx(math.exp(-1))
    assert feed(runner, 1.5, words) == pytest.approx(math.exp(-3))  # the same after two steps as after one
    assert feed(runner, 1.6, others) == 0.0
    assert feed(runner, 99.0, others) == 1.0  # a long gap carries nothing


def test_off_changes_nothing():
    rng = np.random.default_rng(1)
    outputs = [(maps(rng), rng.normal(size=(B, K, N)).astype(np.float32)) for _ in range(3)]
    runner = SmoothingRunner(Fixed(*outputs), tau_s=0)
    for i, (_, scores) in enumerate(outputs):
        assert np.array_equal(feed(runner, i / 30, np.zeros((N, 2), np.float32)), scores)


def test_noise_shrinks_but_the_mean_stays():
    rng = np.random.default_rng(2)
    still = maps(rng)
    noise = [0.5 + 0.1 * rng.normal(size=(B, K, N)).astype(np.float32) for _ in range(200)]
    runner = SmoothingRunner(Fixed(*((still, scores) for scores in noise)), tau_s=0.3)
    smooth = np.array([feed(runner, i / 20, np.zeros((N, 2), np.float32)) for i in range(200)])[50:]
    assert smooth.std(0).mean() < 0.4 * np.array(noise).std(0).mean()
    assert abs(smooth.mean() - 0.5) < 0.02
