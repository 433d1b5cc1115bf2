"""From a picture to named masks, on a network whose answer is known: red, green, blue and dark places."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.color_model import SPACE, vectors, write_color_model
from zeroseg import Segmenter, ZerosegError
from zeroseg.evaluation.network import SegmenterPredict
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.masks import decode_rle
from zeroseg.words import LabelPack

pytest.importorskip("onnx")

PACK = LabelPack(["lawn", "sea", "rose"], vectors("green", "blue", "red"), SPACE)


def flag(height=96, width=128):
    """Left half red, right half blue above dark."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = [255, 0, 0]
    image[: height // 2, width // 2 :] = [0, 0, 255]
    return image


@pytest.fixture(scope="module")
def segmenter(color_model):
    return Segmenter.load(color_model, threads=1).set_labels(PACK)


@pytest.fixture(scope="module")
def result(segmenter):
    return segmenter.segment(flag())


def test_pixels_get_their_label(result):
    assert result.label_map.dtype == np.int16 and result.label_map.shape == (96, 128)
    expected = np.full((96, 128), -1)
    expected[:, :64] = 2
    expected[:48, 64:] = 1
    inner = np.ones((96, 128), bool)  # a patch of the network is 16 pixels, 24 in the photo: edges may move by half
    inner[:, 52:76] = inner[36:60, 52:] = False
    np.testing.assert_array_equal(result.label_map[inner], expected[inner])
    assert result.labels == ["lawn", "sea", "rose"] and result.segment_labels.tolist() == [2, 0, 1, -1]
    np.testing.assert_allclose(result.scores, 1)


def test_edges_are_those_of_mask_decode(segmenter):
    """On by default; off is the bilinear enlargement."""
    photo = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8).repeat(13, 0).repeat(13, 1)
    outputs = SegmenterPredict(segmenter)(photo)
    results = {edges: segmenter.segment(photo, 0.3, edges) for edges in (True, False)}
    for edges, found in results.items():
        guide = photo if edges else None
        wanted = mask_decode(outputs["segment_maps"], found.segment_labels, photo.shape[:2], guide=guide)
        np.testing.assert_array_equal(found.label_map, wanted[0])
        np.testing.assert_array_equal(found.confidence, wanted[1])
    np.testing.assert_array_equal(segmenter.segment(photo, 0.3).label_map, results[True].label_map)
    assert (results[True].label_map != results[False].label_map).any()


def test_found_is_sorted_by_area_and_adds_up(result):
    assert [region.label for region in result.found] == ["rose", "sea"]
    for region in result.found:
        assert region.area_px == (result.label_map == region.index).sum()
        assert region.area == region.area_px / (96 * 128) and region.score == pytest.approx(1)


@pytest.mark.parametrize(("score", "text"), [(-0.004, "0.00"), (0.0, "0.00"), (-0.006, "-0.01"), (0.987, "0.99")])
def test_no_score_is_a_negative_zero(score, text):
    from zeroseg.segmentation import Region

    assert Region("cat", 0, score, 10, 0.1).score_text == text


def test_threshold_makes_background(segmenter):
    assert (segmenter.segment(flag(), threshold=1.5).label_map == -1).all()
    assert segmenter.segment(flag(), threshold=1.5).found == []
    everything = segmenter.segment(flag(), threshold=-1)
    assert (everything.label_map >= 0).all() and everything.threshold == -1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (37, 41), (300, 16)])
def test_any_size_keeps_its_frame(segmenter, size):
    image = np.zeros((*size, 3), np.uint8)
    image[..., 2] = 255
    result = segmenter.segment(image)
    assert result.label_map.shape == size and (result.label_map == 1).all()
    assert result.overlay(legend=False).size == size[::-1]
    result.overlay()


def test_exif_frame_is_the_viewers(segmenter, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned a quarter to the left of how it is shown
    Image.fromarray(np.ascontiguousarray(np.rot90(flag()))).save(tmp_path / "photo.png", exif=exif)
    result = segmenter.segment(tmp_path / "photo.png")
    assert result.label_map.shape == (96, 128)
    assert result.label_map[5, 5] == 2 and result.label_map[5, 120] == 1 and result.label_map[90, 120] == -1


def test_path_picture_and_array_agree(segmenter, tmp_path, result):
    Image.fromarray(flag()).save(tmp_path / "photo.png")
    for source in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(flag())):
        np.testing.assert_array_equal(segmenter.segment(source).label_map, result.label_map)


def test_to_coco_describes_the_label_map(result):
    entries = result.to_coco(image_id=7)
    assert [(e["category"], e["category_id"], e["image_id"]) for e in entries] == [("rose", 3, 7), ("sea", 2, 7)]
    for entry in entries:
        mask = decode_rle(entry["segmentation"])
        np.testing.assert_array_equal(mask, result.label_map == entry["category_id"] - 1)
        assert entry["area"] == mask.sum()
        x, y, width, height = entry["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
    json.dumps(entries)


def test_to_supervision_holds_the_masks(result):
    sv = pytest.importorskip("supervision")
    detections = result.to_supervision()
    assert isinstance(detections, sv.Detections) and detections.class_id.tolist() == [2, 1]
    assert detections.data["class_name"].tolist() == ["rose", "sea"]
    for mask, region, box in zip(detections.mask, result.found, detections.xyxy):
        np.testing.assert_array_equal(mask, result.label_map == region.index)
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_to_supervision_of_nothing(segmenter):
    pytest.importorskip("supervision")
    assert len(segmenter.segment(flag(), threshold=9).to_supervision()) == 0


def test_overlay_tints_the_photo(result):
    overlay = np.asarray(result.overlay(alpha=0.5, legend=False))
    expected = (result.image[10, 10].astype(int) + result.colors[2]) / 2
    np.testing.assert_allclose(overlay[10, 10], expected, atol=1.5)
    np.testing.assert_array_equal(overlay[90, 120], result.image[90, 120])
    assert result.overlay().height > 96


@pytest.mark.parametrize(("size", "times"), [((16, 24), 9), ((100, 75), 2), ((150, 200), 1), ((300, 8), 1)])
def test_a_small_photo_is_enlarged_above_its_legend(segmenter, size, times):
    result = segmenter.segment(flag(*size))
    height, width = size[0] * times, size[1] * times
    sheet = np.asarray(result.overlay(alpha=1))
    left = (sheet.shape[1] - width) // 2
    photo = sheet[:height, left : left + width]
    assert sheet.shape[0] > height and photo.shape == (height, width, 3)
    flat = np.concatenate([result.colors, np.zeros((1, 3), np.uint8)])[result.label_map]
    expected = flat.repeat(times, 0).repeat(times, 1)
    np.testing.assert_array_equal(photo[2:-2, 2:-2], expected[2:-2, 2:-2])


def test_timings_name_every_stage(result):
    assert list(result.timings_ms) == ["load", "preprocess", "network", "decode"]
    assert all(ms >= 0 for ms in result.timings_ms.values())


def test_to_dict_is_json(result):
    document = json.loads(json.dumps(result.to_dict()))
    assert document["size"] == [96, 128] and document["model"] == "colors"
    assert [label["name"] for label in document["labels"]] == result.labels
    assert [entry["category"] for entry in document["found"]] == ["rose", "sea"]


def test_labels_from_a_pack_file(color_model, tmp_path, result):
    PACK.save(tmp_path / "labels.npz")
    segmenter = Segmenter.load(color_model).set_labels(tmp_path / "labels.npz")
    np.testing.assert_array_equal(segmenter.segment(flag()).label_map, result.label_map)


def test_labels_change_without_reload(color_model):
    segmenter = Segmenter.load(color_model, threads=1)
    assert segmenter.set_labels(PACK).segment(flag()).found[0].label == "rose"
    one = LabelPack(["night"], vectors("dark"), SPACE)
    assert [r.label for r in segmenter.set_labels(one).segment(flag()).found] == ["night"]


def test_a_larger_short_side_finds_a_smaller_thing(color_model):
    """A red stripe of 6 of 256 pixels is a fraction of a patch of 16 at short side 64, and more than one at 768."""
    image = np.zeros((256, 384, 3), np.uint8)
    image[:, 90:96] = [255, 0, 0]
    sizes = {}
    for short_side in (None, 768):
        segmenter = Segmenter.load(color_model, threads=1, short_side=short_side).set_labels(PACK)
        run = segmenter.runner.run

        def seen(feed, run=run, short_side=short_side):
            sizes[short_side] = feed["image"].shape[2:]
            return run(feed)

        segmenter.runner.run = seen
        result = segmenter.segment(image)
        assert [region.label for region in result.found] == ([] if short_side is None else ["rose"])
    assert sizes == {None: (64, 96), 768: (768, 1152)}


@pytest.mark.parametrize("short_side", [0, -1, 31, 4097])
def test_a_short_side_that_no_network_takes(color_model, short_side):
    with pytest.raises(ZerosegError) as error:
        Segmenter.load(color_model, short_side=short_side)
    assert str(error.value) == f"short side: expected 32 to 4096 pixels for this model, got {short_side}"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("cat,dog", r"expected a list of words or a labels.npz, got 'cat,dog'"),
        ("nowhere.npz", "no such label pack"),
        ([], "at least one name|at least one word"),
        (None, "expected a list of words, got None"),
        ([["cat"]], "expected a list of words, got"),
        (LabelPack(["cat"], vectors("red"), "someone/elses-space"), "in someone/elses-space"),
        (LabelPack(["cat"], vectors("red")[:, :9], SPACE), "expected 512 numbers per name"),
    ],
)
def test_bad_labels_are_named(color_model, labels, message):
    with pytest.raises((ZerosegError, ValueError), match=message):
        Segmenter.load(color_model).set_labels(labels)


def test_segment_without_labels(color_model):
    with pytest.raises(ZerosegError, match=r"call set_labels\(\[...\]\) before segment"):
        Segmenter.load(color_model).segment(flag())


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf"), "0.3", [0.3]])
def test_a_threshold_that_is_no_number(segmenter, threshold):
    with pytest.raises(ZerosegError) as error:
        segmenter.segment(flag(), threshold=threshold)
    assert str(error.value) == f"threshold: expected a finite number, got {threshold!r}"


def test_a_threshold_of_numpy_is_a_number(segmenter):
    assert segmenter.segment(flag(), threshold=np.float32(1.5)).threshold == 1.5


def test_damaged_scores_are_named(segmenter, monkeypatch):
    output = segmenter.runner.run({"image": np.zeros((1, 3, 64, 64), np.float32), "label_embeddings": PACK.vectors})
    output["segment_scores"] = output["segment_scores"] * np.nan
    monkeypatch.setattr(segmenter.runner, "run", lambda feed: output)
    with pytest.raises(ZerosegError, match="scores that are not finite"):
        segmenter.segment(flag())


def test_words_are_embedded_when_the_model_is_bundled(tmp_path, monkeypatch):
    write_color_model(tmp_path, name="tiny")
    monkeypatch.setattr("zeroseg.artifact.BUNDLED", tmp_path)
    result = Segmenter.load().set_labels(["cat", "dog", "cat"]).segment(flag(), threshold=-1)
    assert result.labels == ["cat", "dog"] and result.approximate == [False, False]
