"""Evaluation of maps without segments: mmsegmentation's rules written out in NumPy, and an open_clip model by hand."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from zeroseg import Segmenter  # noqa: E402
from zeroseg.commands.eval import evaluate as command  # noqa: E402
from zeroseg.evaluation.evaluate import evaluate  # noqa: E402
from zeroseg.evaluation.folders import plain_folder  # noqa: E402
from zeroseg.evaluation.metrics import iou_per_class  # noqa: E402
from zeroseg.evaluation.protocol import ProtocolConfig  # noqa: E402
from zeroseg.evaluation.scene_sets import ade20k  # noqa: E402

SIZES = [(37, 53), (64, 31), (1, 40)]


def mmseg_iou(scores: list[np.ndarray], raw_masks: list[np.ndarray], classes: int) -> np.ndarray:
    """IoU per class: reduce_zero_label, scores resized to the label, argmax, histograms of what is not ignored."""
    hit, said, true = (np.zeros(classes, np.int64) for _ in range(3))
    for maps, raw in zip(scores, raw_masks, strict=True):
        label = raw.astype(np.int64)
        label[label == 0] = 255
        label = label - 1
        label[label == 254] = 255
        large = torch.nn.functional.interpolate(
            torch.from_numpy(maps)[None].double(), raw.shape, mode="bilinear", align_corners=False
        )[0].numpy()
        answer = large.argmax(0)[label != 255]
        label = label[label != 255]
        hit += np.bincount(answer[answer == label], minlength=classes)
        said += np.bincount(answer, minlength=classes)
        true += np.bincount(label, minlength=classes)
    with np.errstate(invalid="ignore"):
        return hit / (said + true - hit)


def test_miou_is_mmsegmentation_s(tmp_path):
    """ADE20K's 150 classes of which most are absent, odd sizes, ignored pixels, a photo of one row."""
    rng, root = np.random.default_rng(0), tmp_path / "ADEChallengeData2016"
    masks, scores = [], []
    for i, size in enumerate(SIZES):
        for folder in ("images/validation", "annotations/validation"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        masks.append(rng.integers(0, 7, size).astype(np.uint8) * 25)
        scores.append(rng.normal(size=(150, 5, 4)).astype(np.float32) + 2 * (np.arange(150) % 25 == 24)[:, None, None])
        Image.fromarray(np.full((*size, 3), i, np.uint8)).save(root / f"images/validation/{i}.png")
        Image.fromarray(masks[-1]).save(root / f"annotations/validation/{i}.png")
    report = evaluate(lambda photo, size: {"place_scores": scores[photo[0, 0, 0]]}, ade20k(tmp_path))
    wanted = mmseg_iou(scores, masks, 150)
    got = iou_per_class(report.confusion)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    assert np.isnan(wanted).any() and np.nanmax(wanted) > 0
    assert report.mean_iou() == pytest.approx(np.nanmean(wanted), abs=1e-12)


@pytest.fixture
def folder(tmp_path):
    """Two photos, a mask of three classes."""
    rng = np.random.default_rng(3)
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    (tmp_path / "set/classes.txt").write_text("background\ncat\ndog\n")
    for i, size in enumerate([(90, 120), (128, 70)]):
        photo = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
        photo.save(tmp_path / f"set/images/{i}.png")
        Image.fromarray(rng.integers(0, 3, size).astype(np.uint8)).save(tmp_path / f"set/masks/{i}.png")
    return tmp_path / "set"


def confusion_by_hand(dataset, label_maps) -> np.ndarray:
    total = np.zeros((3, 4), np.int64)
    for i, label_map in enumerate(label_maps):
        for truth, answer in zip(dataset.load(i)[1].ravel(), (label_map + 1).ravel()):
            total[truth, answer] += 1
    return total


def run(folder, model, *arguments):
    done = CliRunner().invoke(command, [str(folder), "--model", model, *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_an_open_clip_model_is_measured_as_it_segments(folder, tiny):
    model = tiny + "@templates=1,background=sky+sea"
    report = run(folder, model)
    dataset = plain_folder(folder)
    segmenter = Segmenter.load(model).set_labels(["cat", "dog"])
    wanted = confusion_by_hand(dataset, [segmenter.segment(path).label_map for path in dataset.photos])
    assert wanted[:, 0].sum() and wanted[:, 1:3].sum(), "both background words and labels win somewhere"
    for name, value in zip(("background", "cat", "dog"), iou_per_class(wanted)):
        assert report["iou"][name] == pytest.approx(value, abs=1e-9)
    assert report["config"]["protocol"] == "deployment"


def test_words_of_the_background_s_line_take_the_place_of_the_model_s(folder, tiny, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("sky,sea\ncat\ndog,puppy\n")
    report = run(folder, tiny + "@templates=1,background=grass", "--names", str(words))
    segmenter = Segmenter.load(tiny + "@templates=1,background=none").set_labels(["sky", "sea", "cat", "dog", "puppy"])
    meaning = np.array([-1, -1, 0, 1, 1])
    dataset = plain_folder(folder)
    wanted = confusion_by_hand(dataset, [meaning[segmenter.segment(path).label_map] for path in dataset.photos])
    for name, value in zip(("background", "cat", "dog"), iou_per_class(wanted)):
        assert report["iou"][name] == pytest.approx(value, abs=1e-9)


def test_without_a_background_every_pixel_gets_a_name(folder, tiny):
    (folder / "classes.txt").write_text("bus\ncat\ndog\n")
    report = run(folder, tiny + "@templates=1,background=sky+sea")
    segmenter = Segmenter.load(tiny + "@templates=1,background=none").set_labels(["bus", "cat", "dog"])
    dataset = plain_folder(folder)
    wanted = confusion_by_hand(dataset, [segmenter.segment(path).label_map - 1 for path in dataset.photos])
    for name, value in zip(("bus", "cat", "dog"), iou_per_class(wanted)):
        assert report["iou"][name] == pytest.approx(value, abs=1e-9)


def test_windows_of_groupvit_are_refused_in_one_line(folder, tiny):
    done = CliRunner().invoke(command, [str(folder), "--model", tiny + "@templates=1", "--protocol", "groupvit"])
    assert done.exit_code == 1 and "has no segments, and has its own windows; use --protocol deployment" in done.output


def test_many_classes_of_a_large_photo_take_little_memory():
    """171 maps for a photo of 1024 x 2048: resized together they would take 1.4 GB."""
    import tracemalloc

    from zeroseg.evaluation.protocol import read_whole

    places = np.random.default_rng(0).normal(size=(171, 14, 28)).astype(np.float32)
    photo = np.zeros((1024, 2048, 3), np.uint8)
    tracemalloc.start()
    reading = read_whole(lambda photo, size: {"place_scores": places}, photo, 171)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reading.label.shape == (1024, 2048) and peak < 100e6


def test_fewer_maps_than_names_are_refused():
    from zeroseg.evaluation.protocol import read_whole

    two = {"place_scores": np.zeros((2, 3, 3), np.float32)}
    with pytest.raises(ValueError, match="expected at least 3 maps, one for each name, got 2"):
        read_whole(lambda photo, size: two, np.zeros((9, 9, 3), np.uint8), 3)


def test_thresholds_hold_for_places_too():
    from zeroseg.evaluation.evaluate import read_photo

    places = np.array([0.2, 0.6, 0.4], np.float32).reshape(3, 1, 1)
    reading = read_photo(
        lambda photo, size: {"place_scores": places}, np.zeros((2, 2, 3), np.uint8), 2, ProtocolConfig()
    )
    assert (reading.label_map(0.5) == 1).all() and (reading.label_map(0.7) == -1).all()
    places[2] = 0.9  # a background word
    reading = read_photo(
        lambda photo, size: {"place_scores": places}, np.zeros((2, 2, 3), np.uint8), 2, ProtocolConfig()
    )
    assert (reading.label_map(-np.inf) == -1).all()
