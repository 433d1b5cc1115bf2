"""Embeddings over time: the formula by loops, what restarts it, and words that change in between."""

import math

import numpy as np
import pytest

from tests.color_model import sidecar
from tests.score_reference import scores_by_loops
from zeroseg.segment.encoded import Places, Segments
from zeroseg.segment.smoothing import carry, smooth
from zeroseg.sidecar import parse_sidecar
from zeroseg.words import LabelPack

K, D, H, W = 4, 3, 5, 7
SPACE = "test/space"
SIDECAR = parse_sidecar(sidecar(embedding_space=SPACE, embedding_dim=D), "test")


def maps(rng):
    logits = rng.normal(size=(K, H, W)) * 3
    return (np.exp(logits) / np.exp(logits).sum(0, keepdims=True)).astype(np.float32)


def segments(maps_Khw, embeddings_KD):
    embeddings_KD = np.asarray(embeddings_KD, np.float32)
    return Segments(embeddings_KD.mean(0), (H, W), SIDECAR, maps=maps_Khw, embeddings=embeddings_KD)


def stream(frames, tau_s):
    """The smoothed segments of (time in seconds, segments), one after the other."""
    past, smoothed = None, []
    for time_s, frame in frames:
        past = time_s, smooth(frame, time_s, past, tau_s)
        smoothed.append(past[1])
    return smoothed


def carried_by_loops(values, now, old, then, keep):
    expected = np.zeros(values.shape)
    for k in range(len(now)):
        overlap = [
            sum(float(now[k, y, x]) * float(then[j, y, x]) for y in range(H) for x in range(W)) for j in range(K)
        ]
        for d in range(values.shape[1]):
            carried = sum(overlap[j] * float(old[j, d]) for j in range(K)) / sum(overlap)
            expected[k, d] = (1 - keep) * float(values[k, d]) + keep * carried
    return expected


def test_formula_by_loops():
    rng = np.random.default_rng(0)
    now, then = maps(rng), maps(rng)
    values, old = rng.normal(size=(2, K, D)).astype(np.float32)
    expected = carried_by_loops(values, now, old, then, 0.7)
    assert carry(values, now, old, then, 0.7) == pytest.approx(expected, abs=1e-5)


def test_segments_that_swap_numbers_keep_their_embeddings():
    """Segment 0 of the last frame is segment 1 of this one: its embedding follows its pixels."""
    then = np.zeros((2, 2, 2), np.float32)
    then[0, 0] = then[1, 1] = 1
    old = np.array([[1.0], [0.0]], np.float32)
    carried = carry(np.zeros((2, 1), np.float32), then[::-1].copy(), old, then, 1.0)
    assert carried.ravel().tolist() == [0, 1]


def test_time_constant_is_in_seconds_and_a_gap_starts_afresh():
    still = np.ones((1, 1, 1), np.float32)
    one, zero = segments(still, np.ones((1, D))), segments(still, np.zeros((1, D)))
    smoothed = stream([(0.0, one), (0.5, zero), (1.5, zero), (4.1, one), (4.0, zero)], tau_s=0.5)
    assert [float(frame.embeddings[0, 0]) for frame in smoothed] == pytest.approx(
        [1.0, math.exp(-1), math.exp(-3), 1.0, 0.0]  # as much after two steps as after one; 2.6 s; back in time
    )


def test_another_size_starts_afresh():
    rng = np.random.default_rng(3)
    first, second = segments(maps(rng), rng.normal(size=(K, D))), segments(maps(rng)[:, :4], rng.normal(size=(K, D)))
    assert smooth(second, 0.1, (0.0, first), 1.0) is second


@pytest.mark.parametrize("tau_s", [0, 0.0, -1.0])
def test_off_changes_nothing(tau_s):
    rng = np.random.default_rng(1)
    frames = [(i / 30, segments(maps(rng), rng.normal(size=(K, D)))) for i in range(3)]
    assert all(got is frame for got, (_, frame) in zip(stream(frames, tau_s), frames, strict=True))


def test_a_dense_network_s_frames_pass_as_they_are():
    rng = np.random.default_rng(4)
    first, second = (
        Places(np.ones(D, np.float32), (H, W), SIDECAR, embeddings=rng.normal(size=(D, H, W)).astype(np.float32))
        for _ in range(2)
    )
    assert smooth(second, 0.1, (0.0, first), 1.0) is second


def test_noise_shrinks_but_the_mean_stays():
    rng = np.random.default_rng(2)
    still = maps(rng)
    noise = [0.5 + 0.1 * rng.normal(size=(K, D)) for _ in range(200)]
    smoothed = stream([(i / 20, segments(still, values)) for i, values in enumerate(noise)], tau_s=0.3)
    steady = np.array([frame.embeddings for frame in smoothed])[50:]
    assert steady.std(0).mean() < 0.4 * np.array(noise).std(0).mean()
    assert abs(steady.mean() - 0.5) < 0.02


def test_words_that_change_in_between_are_scored_on_smoothed_embeddings():
    """The scores of a word that was typed just now are those of a stream that had it from the beginning."""
    rng = np.random.default_rng(5)
    frames = [(i / 10, segments(maps(rng), rng.normal(size=(K, D)))) for i in range(4)]
    expected = frames[0][1].embeddings
    for i in range(1, 4):
        now, then = frames[i][1], frames[i - 1][1]
        expected = carried_by_loops(now.embeddings, now.maps, expected, then.maps, math.exp(-0.1 / 0.3))
    words = LabelPack(["new"], np.eye(1, D, dtype=np.float32), SPACE)
    got = stream(frames, tau_s=0.3)[-1].scores(words)
    assert got == pytest.approx(scores_by_loops(expected, words.vectors), abs=1e-5)
    assert np.abs(got - frames[-1][1].scores(words)).max() > 0.05


def test_maps_size_and_image_stay_this_frame_s():
    rng = np.random.default_rng(6)
    first, second = (segments(maps(rng), rng.normal(size=(K, D))) for _ in range(2))
    smoothed = smooth(second, 0.1, (0.0, first), 1.0)
    assert smoothed.maps is second.maps and smoothed.image_embedding is second.image_embedding
    assert smoothed.size == second.size and smoothed.sidecar is second.sidecar
