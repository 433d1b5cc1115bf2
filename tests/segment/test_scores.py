"""zeroseg/segment/scores.py against float64 loops: cosines, scores from a centre, the fall-off, the label table."""

import time

import numpy as np
import pytest

from tests.score_reference import fallen_by_loops, scores_by_loops
from zeroseg.segment.scores import embedding_scores, fall_off, label_table, segment_scores, unit
from zeroseg.sidecar import Scoring

TOLERANCE = 1e-6  # float32 sums of 512 products of numbers below 1
CASES = [(1, 1, 512), (8, 2, 512), (8, 7, 16), (3, 31, 512), (8, 1201, 512)]


def given(K, N, D, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(K, D)).astype(np.float32)
    embeddings *= rng.uniform(0.01, 1, (K, 1)).astype(np.float32) / np.linalg.norm(embeddings, axis=1, keepdims=True)
    vectors = rng.normal(size=(N, D)).astype(np.float32)
    vectors += 2 * embeddings[rng.integers(0, K, N)] * np.sqrt(D)  # else all scores would be near 0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centre = (0.3 * vectors.mean(0) + 0.01 * rng.normal(size=D)).astype(np.float32)
    return embeddings, vectors, centre


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.65])
def test_scores_equal_loops(case, centred, share):
    embeddings, vectors, centre = given(*case)
    scoring = Scoring(centre if centred else None, share)
    got = segment_scores(embeddings, vectors, scoring)
    expected = scores_by_loops(embeddings, vectors, scoring.centre, share)
    assert got.dtype == np.float32 and got.shape == expected.shape
    np.testing.assert_allclose(
        got, expected, atol=TOLERANCE * (11 if share else 1)
    )  # the fall-off is 11 times as steep


def test_the_length_of_an_embedding_counts_with_a_centre_only():
    embeddings, vectors, centre = given(4, 3, 64)
    np.testing.assert_allclose(
        embedding_scores(0.5 * embeddings, vectors, Scoring(centre)),
        0.5 * embedding_scores(embeddings, vectors, Scoring(centre)),
        atol=TOLERANCE,
    )
    np.testing.assert_allclose(
        embedding_scores(0.5 * embeddings, vectors, Scoring()),
        embedding_scores(embeddings, vectors, Scoring()),
        atol=TOLERANCE,
    )


def test_a_label_at_the_centre_and_a_segment_of_zeros_score_finite_numbers():
    embeddings, vectors, _ = given(3, 2, 16)
    embeddings[1] = 0
    at_centre = embedding_scores(embeddings, vectors, Scoring(vectors[0].copy()))
    assert np.isfinite(at_centre).all() and np.abs(at_centre).max() <= 1 + TOLERANCE
    assert (embedding_scores(embeddings, vectors, Scoring())[1] == 0).all()


def test_fall_off_by_hand():
    """Best 0.8, half of it 0.4, a hundredth of 0.1; scores below 0 stay, whether the best is above 0 or not."""
    scores = [[0.8, 0.5, 0.4, 0.38, 0.1], [0.3, 0.15, 0.14, -0.1, -0.9], [-0.2, -0.2, -0.23, -0.4, -0.9]]
    wanted = [[0.8, 0.5, 0.4, 0.18, 0.001], [0.3, 0.15, 0.04, -0.1, -0.9], [-0.2, -0.2, -0.23, -0.4, -0.9]]
    scores, wanted = (np.array(rows, np.float32).T for rows in (scores, wanted))
    np.testing.assert_allclose(fall_off(scores, 0.5), wanted, atol=1e-6)
    np.testing.assert_allclose(fallen_by_loops(scores, 0.5), wanted, atol=1e-6)


def test_the_best_score_and_the_image_s_do_not_fall():
    embeddings, vectors, centre = given(8, 5, 64)
    plain, fallen = (segment_scores(embeddings, vectors, Scoring(centre, share)) for share in (0.0, 0.9))
    np.testing.assert_array_equal(fallen.max(0), plain.max(0))
    assert (fallen < plain).any()
    np.testing.assert_array_equal(embedding_scores(embeddings, vectors, Scoring(centre, 0.9)), plain)


def test_label_table_takes_the_best_label_from_the_threshold_on():
    scores = np.array([[0.1, 0.5], [0.49, 0.2], [0.7, 0.7], [-0.3, -0.2]], np.float32)
    assert label_table(scores, 0.5).tolist() == [1, -1, 0, -1]
    assert label_table(scores, -1).tolist() == [1, 0, 0, 1] and label_table(scores, 0.5).dtype == np.int16
    assert label_table(np.float32([[0.3]]), 0.3).tolist() == [0]  # 0.3 of float64 is more than that of float32


def test_1200_labels_take_less_than_2_ms():
    """The fastest of many calls is what it takes where nothing else runs. 8 segments of 512, as the bundled model."""
    embeddings, vectors, centre = given(8, 1200, 512)

    def call_ms():
        start_s = time.perf_counter()
        label_table(segment_scores(embeddings, vectors, Scoring(centre, 0.65)), 0.2)
        return 1000 * (time.perf_counter() - start_s)

    assert min(call_ms() for _ in range(200)) < 2


def test_unit_rows():
    rows = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0]])
