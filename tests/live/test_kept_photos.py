"""Kept photos: new words for a recent photo run no network, and the kept photos take bounded memory."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.counting import counting
from tests.live.conftest import color_pack, png

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="the framework's test client needs it")
testclient = pytest.importorskip("starlette.testclient")

from zeroseg.live.board import Board  # noqa: E402 (only where FastAPI is)
from zeroseg.live.rest import KEPT_PHOTOS, KeptPhotos  # noqa: E402
from zeroseg.live.server import make_app  # noqa: E402


def test_other_words_for_the_same_photo_run_no_network(color_segmenter, color_words, scene):
    segmenter = counting(color_segmenter)
    other = scene[:, ::-1].copy()

    def ask(picture, labels, **data):
        return client.post("/segment", files={"image": png(picture)}, data={"labels": labels, **data}).json()

    with testclient.TestClient(make_app(segmenter, None, Board()), base_url="http://127.0.0.1") as client:
        first = ask(scene, "red")
        assert segmenter.runner.images == 1 and first["timings_ms"]["network"] > 0
        for labels in ("blue", "red,green", "red"):
            again = ask(scene, labels)
            expected = color_segmenter.encode(scene).masks(color_pack(labels.split(",")))
            assert again["found"] == json.loads(json.dumps(expected.to_coco())) != []
            assert again["timings_ms"]["network"] == 0 < again["timings_ms"]["decode"]
        assert ask(scene, "red", threshold="1.9")["found"] == []
        assert segmenter.runner.images == 1
        assert ask(other, "red")["found"] != first["found"] and segmenter.runner.images == 2
        pictures = [np.roll(scene, shift, 1) for shift in range(1, KEPT_PHOTOS)]
        for picture in (scene, *pictures):  # the oldest, other, is forgotten
            ask(picture, "red")
        assert segmenter.runner.images == 2 + len(pictures)
        assert ask(scene, "blue")["found"] and segmenter.runner.images == 2 + len(pictures)
        ask(other, "red")
        assert segmenter.runner.images == 3 + len(pictures)


def test_what_cannot_be_segmented_is_not_kept(photo_app, scene):
    broken = png(scene)[:200]
    assert [photo_app.post("/segment", files={"image": broken}).status_code for _ in range(2)] == [415, 415]


def test_kept_photos_are_bounded_in_number_and_pixels(color_segmenter, monkeypatch):
    monkeypatch.setattr("zeroseg.live.rest.KEPT_PIXELS", 40_000)
    kept = KeptPhotos()
    small, large, huge = (color_segmenter.encode(np.zeros((100, side, 3), np.uint8)) for side in (100, 300, 500))
    kept.put(b"huge", huge)
    assert kept.get(b"huge") is None
    kept.put(b"small", small)
    kept.put(b"large", large)
    assert kept.get(b"small").image is small.image and kept.get(b"large").image is large.image
    kept.put(b"new", small)
    assert kept.get(b"small") is None and kept.get(b"large") and kept.get(b"new")
    for i in range(9):
        kept.put(b"%d" % i, color_segmenter.encode(np.zeros((10, 10, 3), np.uint8)))
    assert [i for i in range(9) if kept.get(b"%d" % i)] == [5, 6, 7, 8]


def test_many_threads_share_the_kept_photos(color_segmenter):
    kept, errors = KeptPhotos(), []
    encoded = [color_segmenter.encode(np.full((8, 8 + i, 3), i, np.uint8)) for i in range(6)]

    def work(seed):
        for i in np.random.default_rng(seed).integers(0, 6, 2000).tolist():
            found = kept.get(bytes([i]))
            if found is not None and found.size != encoded[i].size:
                errors.append(i)
            kept.put(bytes([i]), encoded[i])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert errors == [] and sum(kept.get(bytes([i])) is not None for i in range(6)) == KEPT_PHOTOS
