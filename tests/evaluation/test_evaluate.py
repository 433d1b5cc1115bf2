"""evaluate() and its report, on networks whose right numbers can be counted by hand."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.evaluation import class_names, label_sets, oracle, report, resize, standard_sets
from zeroseg.evaluation.evaluate import evaluate, sweep_thresholds
from zeroseg.evaluation.folders import Pairs, plain_folder
from zeroseg.evaluation.protocol import ProtocolConfig, SegmentReading, read_whole

# two photos of 4x4: left half background | right half cat, and top half dog | bottom half background
MASKS = [[[0, 0, 1, 1]] * 4, [[2] * 4] * 2 + [[0] * 4] * 2]


@pytest.fixture
def dataset(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    for i, mask in enumerate(MASKS):
        Image.fromarray(np.full((4, 4, 3), 100 + i, np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(np.array(mask, np.uint8)).save(tmp_path / f"masks/{i}.png")
    return plain_folder(tmp_path)


def halves(scores, vertical=True):
    """A network of two segments, the halves of the photo, with given scores (2, N)."""
    first = np.array([[1, 1, 0, 0]] * 4 if vertical else [[1] * 4] * 2 + [[0] * 4] * 2, np.float32)
    scores = np.array(scores, np.float32)
    return {"segment_maps": np.stack([first, 1 - first]), "segment_scores": scores, "image_scores": scores.max(0)}


def by_photo(answers):
    return lambda photo, size: answers[int(photo[0, 0, 0]) - 100]


PERFECT = by_photo([halves([[0.1, 0.2], [0.9, 0.3]]), halves([[0.2, 0.8], [0.1, 0.3]], vertical=False)])


def test_perfect_network_scores_one(dataset):
    result = evaluate(PERFECT, dataset, ProtocolConfig(threshold=0.5), subset=["cat"]).summary()
    assert result["miou"] == result["miou_subset"] == result["oracle_iou"] == result["naming_accuracy"] == 1.0
    assert (result["foreground_iou"], result["background_iou"], result["photos"]) == (1.0, 1.0, 2)


def test_counts_equal_a_count_by_hand(dataset):
    # photo 0: both halves cat (found too much); photo 1: dog called cat
    predict = by_photo([halves([[0.9, 0.2], [0.9, 0.3]]), halves([[0.8, 0.1], [0.1, 0.3]], vertical=False)])
    result = evaluate(predict, dataset, ProtocolConfig(threshold=0.5))
    assert result.confusion.tolist() == [[8, 8, 0, 0], [0, 8, 0, 0], [0, 8, 0, 0]]
    s = result.summary()
    assert s["iou"] == {"background": 0.5, "cat": 8 / 24, "dog": 0.0}
    assert s["naming_accuracy"] == 0.5 and s["oracle_majority"] == 1.0
    assert s["foreground_iou"] == 16 / 24 and s["background_iou"] == 0.5


def test_threshold_is_inclusive_and_sweep_is_labelled(dataset):
    result = evaluate(PERFECT, dataset, ProtocolConfig(threshold=0.5), sweep=[0.8, 0.85, 0.95, 0.5])
    confusion = dict(result.sweep)
    assert result.confusion.tolist() == confusion[0.5].tolist() == [[16, 0, 0, 0], [0, 8, 0, 0], [0, 0, 8, 0]]
    assert confusion[0.8].tolist() == [[16, 0, 0, 0], [0, 8, 0, 0], [0, 0, 8, 0]]
    assert confusion[0.85].tolist() == [[16, 0, 0, 0], [0, 8, 0, 0], [8, 0, 0, 0]]
    assert confusion[0.95].tolist() == [[16, 0, 0, 0], [8, 0, 0, 0], [8, 0, 0, 0]]
    assert "optimistic: chosen on the test masks" in result.table()
    assert result.summary()["sweep_optimistic"][0] == {"threshold": 0.5, "miou": 1.0}


def test_distractor_answers_are_wrong_everywhere_and_reported_apart(dataset):
    labels = label_sets.label_set(dataset, "distractors")
    assert len(labels.names) == 52 and labels.names[:2] == ("cat", "dog")
    scores = np.zeros((2, 52))
    scores[0, 7], scores[1, 0] = 0.9, 0.8  # left: a distractor on background; right: cat
    predict = by_photo([halves(scores)] * 2)
    result = evaluate(predict, dataset, ProtocolConfig(threshold=0.5), labels, limit=1)
    assert result.confusion.tolist() == [[0, 0, 0, 8], [0, 8, 0, 0], [0, 0, 0, 0]]
    s = result.summary()
    assert s["miou"] == 0.5 and s["miou_distractors_as_background"] == 1.0 and s["distractor_share"] == 0.5


def test_folder_without_background_has_no_threshold_unless_one_is_given(tmp_path, dataset):
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.yaml").write_text("classes:\n  0: unlabeled\n  1: cat\n  2: dog\n  3: cow\n")
    dataset = plain_folder(tmp_path)
    predict = by_photo([halves([[0.1, 0.2, 0], [0.9, 0.3, 0]]), halves([[0.2, 0.1, 0], [0.1, 0.3, 0]], False)])
    result = evaluate(predict, dataset, ProtocolConfig(threshold=0.5))
    assert result.confusion.tolist() == [[8, 0, 0, 0], [0, 0, 0, 8], [0, 0, 0, 0]]  # the second photo scores less
    result = evaluate(predict, dataset)
    assert result.confusion.tolist() == [[8, 0, 0, 0], [8, 0, 0, 0], [0, 0, 0, 0]]  # unlabelled halves do not count
    assert result.mean_iou() == 0.25  # cat 8/16, dog 0; cow is in no mask
    assert result.summary()["config"]["threshold"] == "-inf" and "background where" not in result.table()


def test_place_scores_follow_the_same_rule(dataset):
    def predict(photo, size):
        places = np.zeros((2, 4, 4), np.float32)
        places[0, :, 2:] = 0.9
        return {"place_scores": places}

    result = evaluate(predict, dataset, ProtocolConfig(threshold=0.5), limit=1)
    assert result.summary()["iou"] == {"background": 1.0, "cat": 1.0, "dog": None} and result.oracle == {}


def test_windowed_protocol_runs_through_evaluate(dataset):
    config = ProtocolConfig("groupvit", 0.9, window_px=64, stride_px=32, short_side_px=64, logit_scale=20)
    result = evaluate(PERFECT_ANYWHERE, dataset, config, limit=1, sweep=[0.0])
    assert result.summary()["iou"]["cat"] == 1.0 and result.oracle["iou"].trace() == 16
    assert dict(result.sweep)[0.0][0, 0] == 0  # threshold 0: nothing is background


def PERFECT_ANYWHERE(photo, size):
    return halves([[0.1, 0.1], [0.9, 0.3]])


def test_oracle_rules_by_hand():
    counts = np.array([[6, 4, 0], [50, 1, 0], [0, 0, 0]])
    assert oracle.oracle_labels(counts, "majority").tolist() == [0, 0, 0]
    assert oracle.oracle_labels(counts, "iou").tolist() == [1, 0, 0]  # 4/(10+5-4) beats 6/(10+56-6)
    segments, mask = np.array([[0, 0, 1], [1, 1, 0]]), np.array([[0, 1, 1], [255, 1, 2]])
    assert oracle.label_counts(segments, mask, 2, 3).tolist() == [[1, 1, 1], [0, 2, 0]]


def test_oracle_is_an_upper_bound_for_majority_pixels():
    rng = np.random.default_rng(0)
    segments, mask = rng.integers(0, 5, (30, 40)), rng.integers(0, 4, (30, 40))
    reading = SegmentReading(segments, np.zeros(5, int), np.zeros(5))
    best = (reading.oracle_map(mask, 4, "majority") == mask).mean()
    assert all((rng.integers(0, 4, 5)[segments] == mask).mean() <= best for _ in range(50))


@pytest.mark.parametrize(
    "harm,message",
    [
        (lambda o: o.pop("segment_maps"), "expected an output segment_maps, got image_scores, segment_scores"),
        (lambda o: o.update(segment_scores=o["segment_scores"][:, :1]), r"segment_scores: expected \(2, 2\)"),
        (lambda o: o["segment_maps"].__setitem__((0, 0, 0), np.nan), "segment_maps: expected finite values, got 1"),
    ],
)
def test_malformed_answer_is_named(harm, message):
    outputs = halves([[0.1, 0.2], [0.9, 0.3]])
    harm(outputs)
    with pytest.raises(ValueError, match=message):
        read_whole(lambda photo, size: outputs, np.zeros((4, 4, 3), np.uint8), 2)


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda d: ProtocolConfig("sliding"), "protocol: expected one of deployment, groupvit"),
        (lambda d: ProtocolConfig(stride_px=0), "stride_px: expected a number above 0"),
        (lambda d: ProtocolConfig(top_names=0), "top_names: expected at least 1"),
        (lambda d: evaluate(PERFECT, d, subset=["cow"]), "subset: expected classes of .*, got 'cow'"),
        (lambda d: label_sets.label_set(d, "nice"), "labels: expected one of official, plain, distractors"),
    ],
)
def test_bad_options_are_one_clear_line(dataset, make, message):
    with pytest.raises(ZerosegError, match=message) as caught:
        make(dataset)
    assert "\n" not in str(caught.value)


def test_json_line_is_strict_and_whole(dataset):
    result = evaluate(PERFECT, dataset, ProtocolConfig(threshold=0.5), limit=1)
    line = result.json_line()
    assert "\n" not in line and json.loads(line, parse_constant=pytest.fail)["iou"]["dog"] is None
    assert line == json.dumps(result.summary()) and result.summary()["predict_ms"]["median"] >= 0


def test_sweep_thresholds_span_the_scores(dataset):
    found = sweep_thresholds(PERFECT, dataset, 2, ProtocolConfig())
    assert 0.2 <= min(found) and max(found) <= 0.9 and len(found) >= 4
    windowed = sweep_thresholds(PERFECT, dataset, 2, ProtocolConfig("groupvit"))
    np.testing.assert_allclose(windowed, np.arange(0.05, 0.96, 0.05))


def test_distractors_are_fifty_and_no_class_of_any_set():
    classes = {*class_names.VOC_PLAIN, *class_names.VOC_OFFICIAL, *class_names.CONTEXT_PLAIN,
               *class_names.CONTEXT_OFFICIAL, *class_names.COCO_THINGS}  # fmt: skip
    assert len(set(label_sets.DISTRACTORS)) == 50 and not classes & set(label_sets.DISTRACTORS)


def test_official_and_plain_names_share_class_ids(dataset):
    folder = standard_sets._with_background("x", Pairs((), ()), class_names.VOC_PLAIN, class_names.VOC_OFFICIAL)
    official, plain = (label_sets.label_set(folder, kind) for kind in ("official", "plain"))
    changed = [(a, b) for a, b in zip(plain.names, official.names) if a != b]
    assert changed == [("dining table", "table"), ("potted plant", "plant"), ("tv monitor", "monitor")]
    assert official.class_ids.tolist() == plain.class_ids.tolist() == list(range(1, 21))
    assert math.isnan(report.Report(folder, plain, ProtocolConfig()).mean_iou())


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_probability_of_the_best_label_is_that_of_a_softmax_at_every_pixel(scale):
    """As SCLIP's evaluation: scores resized, times the scale, softmax over all words, the best word's share."""
    places = np.random.default_rng(2).normal(0, 0.1, (7, 5, 6)).astype(np.float32)
    reading = read_whole(lambda photo, size: {"place_scores": places}, np.zeros((23, 31, 3), np.uint8), 5, scale)
    full = resize.bilinear(places, (23, 31)).astype(np.float64)
    shares = np.exp(scale * full) / np.exp(scale * full).sum(0)
    best = shares.argmax(0)
    np.testing.assert_allclose(reading.score_map(), shares.max(0), rtol=1e-4)
    expected = np.where((shares.max(0) >= 0.3) & (best < 5), best, -1)
    clear = np.abs(shares.max(0) - 0.3) > 1e-4
    np.testing.assert_array_equal(reading.label_map(0.3)[clear], expected[clear])


def test_probability_of_a_segment_s_label_is_a_softmax_over_labels():
    scores = np.array([[0.3, 0.1, 0.2], [0.0, 0.0, 0.0]], np.float32)
    maps = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    outputs = {"segment_maps": maps, "segment_scores": scores, "image_scores": np.zeros(3, np.float32)}
    reading = read_whole(lambda photo, size: outputs, np.zeros((2, 4, 3), np.uint8), 3, 10.0)
    e = np.exp([3.0, 1.0, 2.0])
    np.testing.assert_allclose(reading.score, [e[0] / e.sum(), 1 / 3], rtol=1e-6)
    assert reading.label_map(0.5)[0].tolist() == [0, 0, -1, -1]


def test_a_background_rule_that_is_none():
    with pytest.raises(ZerosegError, match="background_rule: expected score or probability, got 'area'"):
        ProtocolConfig(background_rule="area")
