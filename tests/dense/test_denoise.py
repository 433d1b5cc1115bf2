"""Prompt denoising: a label whose best place is weak is dropped."""

import numpy as np
import pytest

from zeroseg.errors import ZerosegError
from zeroseg.segment.scores import without_weak


def test_weak_labels_are_those_of_the_formula():
    maps = np.random.default_rng(0).uniform(0.1, 0.16, (6, 5, 4)).astype(np.float32)
    maps[2] -= 0.1  # never near the best
    maps[4, 3, 1] = 0.3
    best = np.zeros(6)
    for y in range(5):
        for x in range(4):
            p = np.exp(100 * maps[:, y, x].astype(np.float64))
            best = np.maximum(best, p / p.sum())
    assert best.min() < 1e-3 and best.max() > 0.99
    for least in (0.5, float(np.median(best)), 1e-3):
        got = without_weak(maps, least)
        dropped = best < least
        assert 0 < dropped.sum() < 6
        assert (got[dropped] == -2).all()
        np.testing.assert_array_equal(got[~dropped], maps[~dropped])
    np.testing.assert_array_equal(without_weak(maps, 0.0), maps)
    np.testing.assert_array_equal(without_weak(maps[:1], 1.0), maps[:1])  # a single label is always sure


def test_a_photo_loses_the_weak_label_and_only_with_the_setting(tiny):
    pytest.importorskip("torch")
    from zeroseg import Segmenter
    from zeroseg.words import LabelPack

    photo = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    plain, denoised = (Segmenter.load(f"{tiny}@templates=1,background=none{more}") for more in ("", ",denoise=0.5"))
    place = plain.encode(photo).embeddings[:, 1, 2]
    sure = place / np.linalg.norm(place)
    pack = LabelPack(["sure", "weak"], np.stack([sure, -sure]).astype(np.float32), plain.sidecar.embedding_space)
    kept, dropped = (segmenter.set_labels(pack).segment(photo) for segmenter in (plain, denoised))
    assert kept.scores[1] > -2 and dropped.scores[1] == (-2 if kept.place_scores[1].max() < 0 else kept.scores[1])
    np.testing.assert_array_equal(dropped.place_scores[0], kept.place_scores[0])
    for wrong in ("2", "-1", "half"):
        with pytest.raises(ZerosegError, match="denoise: expected a probability from 0 to 1, got"):
            Segmenter.load(f"{tiny}@denoise={wrong}")
