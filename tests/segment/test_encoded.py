"""Encode first, label afterwards: the result of encode(), and new words without a network run."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.color_model import DIM, NAMES, SPACE, vectors
from tests.counting import counting
from tests.score_reference import scores_by_loops
from zeroseg import Segmenter, ZerosegError
from zeroseg.segment.encoded import Segments, image_scores
from zeroseg.sidecar import Scoring
from zeroseg.words import LabelPack

pytest.importorskip("onnx")

PACK = LabelPack(["lawn", "sea", "rose"], vectors("green", "blue", "red"), SPACE)


def photo(seed=0, size=(90, 130)):
    small = np.random.default_rng(seed).integers(0, 2, (3, 4, 3), np.uint8) * 255
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, (3, 4)))
    return small[rows][:, columns]


@pytest.fixture(scope="module")
def segmenter(color_model):
    return Segmenter.load(color_model, threads=1).set_labels(PACK)


def assert_same(one, two):
    np.testing.assert_array_equal(one.label_map, two.label_map)
    np.testing.assert_array_equal(one.confidence, two.confidence)
    np.testing.assert_array_equal(one.segment_scores, two.segment_scores)
    np.testing.assert_array_equal(one.segment_labels, two.segment_labels)
    assert (one.labels, one.threshold, one.model, one.marks) == (two.labels, two.threshold, two.model, two.marks)


@pytest.mark.parametrize("threshold", [None, 0.2, -1, 1.5])
def test_encode_and_masks_are_segment(segmenter, threshold):
    segments = segmenter.encode(photo())
    assert isinstance(segments, Segments)
    expected = segmenter.segment(photo(), threshold)
    assert_same(segments.masks(PACK, threshold), expected)
    assert (expected.label_map >= 0).any() or threshold == 1.5
    np.testing.assert_array_equal(segments.masks(PACK).image, photo())


def test_edges_are_the_image_s_or_none(segmenter):
    segments = segmenter.encode(photo())
    plain = replace(segments, image=None)
    assert_same(segments.masks(PACK, edges=False), plain.masks(PACK))
    assert_same(segmenter.segment(photo(), edges=False), plain.masks(PACK))
    assert (segments.masks(PACK).label_map != plain.masks(PACK).label_map).any()


def test_new_words_and_thresholds_run_no_network(segmenter):
    counted = counting(segmenter)
    segments = counted.encode(photo())
    assert counted.runner.images == 1
    for names in (["green"], ["blue", "dark"], NAMES):
        pack = LabelPack(names, vectors(*names), SPACE)
        for threshold in (None, 0.1):
            expected = segmenter.encode(photo()).masks(pack, threshold)
            assert_same(segments.masks(pack, threshold), expected)
            assert expected.labels == names and (expected.segment_labels >= 0).any()
    assert counted.runner.images == 1
    assert_same(segments.masks(PACK), segmenter.segment(photo()))  # nothing of the other words is left


def test_labels_can_be_words_packs_and_files(segmenter, tmp_path):
    segments = segmenter.encode(photo())
    PACK.save(tmp_path / "labels.npz")
    assert_same(segments.masks(tmp_path / "labels.npz"), segments.masks(PACK))
    words = segments.masks(["cat", "dog", "cat"], threshold=-1)
    assert words.labels == ["cat", "dog"]
    assert_same(words, segmenter.encode(photo()).masks(segmenter.label_pack(["cat", "dog"]), -1))


def test_scores_are_those_of_the_embeddings(segmenter):
    rng = np.random.default_rng(1)
    centre = 0.1 * rng.normal(size=DIM).astype(np.float32)
    sidecar = replace(segmenter.sidecar, scoring=Scoring(centre, 0.6))
    rows = rng.normal(size=(9, DIM)).astype(np.float32) + 3 * vectors(*NAMES, *NAMES, "red")
    pack = LabelPack([str(i) for i in range(9)], rows, SPACE)
    segments = Segmenter(segmenter.runner, sidecar).encode(photo())
    expected = scores_by_loops(segments.embeddings, pack.vectors, centre, 0.6)
    np.testing.assert_allclose(segments.scores(pack), expected, atol=1e-5)
    np.testing.assert_array_equal(segments.masks(pack).segment_scores, segments.scores(pack))
    whole = scores_by_loops(segments.image_embedding[None], pack.vectors, centre)[0]
    np.testing.assert_allclose(image_scores(segments, pack), whole, atol=1e-6)


def test_masks_are_the_maps_argmax_with_the_table_s_names(segmenter):
    segments = segmenter.encode(photo(size=(64, 96)))
    result = segments.masks(PACK, threshold=-1, edges=False)
    torch = pytest.importorskip("torch")
    maps = torch.from_numpy(segments.maps)[None].double()
    large = torch.nn.functional.interpolate(maps, (64, 96), mode="bilinear", align_corners=False)[0].numpy()
    margin = np.sort(large, 0)
    sure = margin[-1] - margin[-2] > 1e-5
    np.testing.assert_array_equal(result.label_map[sure], result.segment_labels[large.argmax(0)][sure])
    assert sure.mean() > 0.8 and len(np.unique(result.label_map)) > 1  # yellow is red and green alike


def test_timings_name_every_stage(segmenter):
    segments = segmenter.encode(photo())
    assert list(segments.timings_ms) == ["load", "preprocess", "network"]
    assert list(segments.masks(PACK).timings_ms) == ["load", "preprocess", "network", "decode"]
    assert list(segments.timings_ms) == ["load", "preprocess", "network"]


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), "0.3", [0.3]])
def test_a_threshold_that_is_no_number(segmenter, threshold):
    with pytest.raises(ZerosegError) as error:
        segmenter.encode(photo()).masks(PACK, threshold)
    assert str(error.value) == f"threshold: expected a finite number, got {threshold!r}"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("cat,dog", "expected a list of words or a labels.npz"),
        ("nowhere.npz", "no such label pack"),
        (None, "expected a list of words, got None"),
        (LabelPack(["cat"], vectors("red"), "someone/elses-space"), "in someone/elses-space"),
        (LabelPack(["cat"], vectors("red")[:, :9], SPACE), f"expected {DIM} numbers per name"),
    ],
)
def test_bad_labels_are_named(segmenter, labels, message):
    segments = segmenter.encode(photo())
    for call in (segments.masks, segments.scores):
        with pytest.raises((ZerosegError, ValueError), match=message) as error:
            call(labels)
        assert "\n" not in str(error.value)


def test_a_short_side_for_one_image(segmenter):
    sizes = {side: segmenter.encode(photo(), side).maps.shape[1:] for side in (None, 64, 128)}
    assert sizes == {None: (4, 6), 64: (4, 6), 128: (8, 12)}
    assert segmenter.encode(photo()).maps.shape[1:] == (4, 6)


def test_to_dict_of_kept_segments_is_json(segmenter):
    document = json.loads(json.dumps(segmenter.encode(photo()).masks(PACK).to_dict()))
    assert document["model"] == "colors" and document["size"] == [90, 130]
