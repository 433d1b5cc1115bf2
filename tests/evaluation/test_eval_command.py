"""zeroseg eval end to end on drawn photos, with the network that finds colours."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.color_model import NAMES, SPACE, vectors
from zeroseg.commands.eval import evaluate
from zeroseg.evaluation.evaluate import evaluate as run
from zeroseg.evaluation.folders import plain_folder
from zeroseg.evaluation.network import SegmenterPredict
from zeroseg.evaluation.protocol import ProtocolConfig
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack

CLASSES = ["background", "red", "green"]
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three photos 128x96 of red and green squares on black, on the network's grid, and their masks."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    for i in range(3):
        mask = np.random.default_rng(i).integers(0, 3, (3, 4), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
        Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
        Image.fromarray(COLOURS[mask]).save(tmp_path / f"images/{i}.png")
    return tmp_path


@pytest.fixture
def pack(tmp_path):
    """Vectors of the names, and of every distractor as the blue segment's."""
    from zeroseg.evaluation.label_sets import DISTRACTORS

    rows = np.concatenate([vectors("red", "green"), vectors(*["blue"] * len(DISTRACTORS))])
    path = tmp_path / "labels.npz"
    LabelPack(["red", "green", *DISTRACTORS], rows, SPACE).save(path)
    return path


def invoke(*arguments):
    return CliRunner().invoke(evaluate, [str(a) for a in arguments])


def last_json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_numbers_are_those_of_the_deployed_segmenter(folder, color_model, pack):
    s = last_json(invoke(folder, "--model", color_model, "--pack", pack))
    segmenter = Segmenter.load(color_model).set_labels(LabelPack(NAMES[:2], vectors("red", "green"), SPACE))
    dataset = plain_folder(folder)
    hits = total = 0
    for i in range(3):
        photo, mask = dataset.load(i)
        hits += int((segmenter.segment(photo).label_map + 1 == mask).sum())
        total += mask.size
    assert s["pixel_accuracy"] == hits / total and s["miou"] > 0.7
    assert (s["threshold_from"], s["config"]["threshold"], s["backend"]) == ("the model", 0.5, "onnxruntime")
    assert s["naming_accuracy"] > 0.9 and s["oracle_iou"] >= s["miou"]


def test_photos_that_are_left_out_are_said(folder, color_model, pack):
    (folder / "masks/1.png").unlink()
    result = invoke(folder, "--model", color_model, "--pack", pack)
    assert last_json(result)["photos_without_mask"] == 1 and last_json(result)["photos"] == 2
    assert "Note: 1 photos without a mask are left out, for example 1.png" in result.stderr.splitlines()


def test_a_mask_of_0_and_255_has_a_hint(folder, color_model, pack):
    for path in (folder / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0) * np.uint8(255)).save(path)
    result = invoke(folder, "--model", color_model, "--pack", pack)
    assert "masks of 0 and 255 must be changed to 0 and 1" in result.stdout
    assert last_json(result)["iou"]["background"] is not None


def test_two_classes_that_are_said_alike_are_refused(folder, color_model, pack):
    (folder / "classes.txt").write_text("background\nred\nred-merged\n")
    result = invoke(folder, "--model", color_model, "--pack", pack)
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: labels official: 'red' and 'red-merged' both get the label 'red'; use --labels plain, or give --names\n"
    )


def test_all_label_sets_give_one_json_line_and_reports(folder, color_model, pack, tmp_path):
    out = tmp_path / "out"
    result = invoke(folder, "--model", color_model, "--pack", pack, "--labels", "all", "--out", out, "--pictures", 2,
                    "--sweep", "--subset", "red", "--limit", 2)  # fmt: skip
    runs = last_json(result)
    assert list(runs) == ["official", "plain", "distractors", "absent"] and runs["distractors"]["names"] == 52
    assert runs["plain"]["subset"] == ["red"] and runs["plain"]["miou_subset"] == runs["plain"]["iou"]["red"]
    assert runs["absent"]["names"] == 50 and runs["absent"]["distractor_share"] == 0  # no photo is blue
    assert "optimistic: chosen on the test masks" in result.output
    assert json.loads((out / "report-plain.json").read_text()) == runs["plain"]
    assert Image.open(out / "sheet-official.png").width > 3 * 256


def test_things_and_a_threshold_in_a_folder_without_background(folder, color_model, tmp_path):
    """The squares are called cat (a thing of COCO) and grass; black is not counted."""
    (folder / "classes.txt").write_text("unlabeled\ncat\ngrass\n")
    LabelPack(["cat", "grass"], vectors("red", "green"), SPACE).save(tmp_path / "two.npz")
    base = (folder, "--model", color_model, "--pack", tmp_path / "two.npz", "--subset", "things")
    every = last_json(invoke(*base))
    assert every["subset"] == ["cat"] and every["miou_subset"] == every["iou"]["cat"] > 0.9
    assert every["threshold_from"].startswith("nowhere")
    none = last_json(invoke(*base, "--threshold", 99))
    assert (none["threshold_from"], none["config"]["threshold"]) == ("--threshold", 99)
    assert none["iou"] == {"cat": 0, "grass": 0}


def test_absent_names_count_the_pixels_that_get_a_label(folder, color_model, tmp_path):
    from zeroseg.evaluation.label_sets import DISTRACTORS

    pack = LabelPack(list(DISTRACTORS), vectors(*["red"] * len(DISTRACTORS)), SPACE)
    pack.save(tmp_path / "red.npz")
    s = last_json(
        invoke(folder, "--model", color_model, "--pack", tmp_path / "red.npz", "--labels", "absent", "--edges", "off")
    )
    segmenter = Segmenter.load(color_model).set_labels(pack)
    red = np.mean([segmenter.segment(folder / f"images/{i}.png", edges=False).label_map >= 0 for i in range(3)])
    assert s["names"] == 50 and 0.2 < red < 0.5 and s["distractor_share"] == pytest.approx(red)


def test_windowed_protocol_from_the_command(folder, color_model, pack):
    s = last_json(invoke(folder, "--model", color_model, "--pack", pack, "--protocol", "groupvit", "--short-side", 96,
                         "--window", 64, "--stride", 32, "--logit-scale", 8, "--top-names", 0))  # fmt: skip
    assert s["config"]["top_names"] is None and s["config"]["multiple_px"] == 32
    assert s["threshold_from"] == "the ZeroSeg paper" and s["config"]["threshold"] == 0.95
    assert s["oracle_iou"] > 0.7


def test_dry_run_measures_nothing(folder, color_model):
    result = invoke(folder, "--model", color_model, "-n", "--threshold", 0.25, "--edges", "on")
    used = {"protocol": "deployment", "threshold": 0.25, "edges": True, "background_rule": "score"}
    assert last_json(result)["config"] == used
    assert last_json(result)["photos"] == 3 and "mIoU" not in result.output


def test_the_background_rule_of_published_evaluations_is_kept_with_the_numbers(folder, color_model):
    rule = ["--background-rule", "probability", "--threshold", 0.4, "--logit-scale", 40]
    config = last_json(invoke(folder, "--model", color_model, "-n", *rule))["config"]
    rule = {"threshold": 0.4, "background_rule": "probability", "logit_scale": 40.0}
    assert config == {"protocol": "deployment", "edges": True, **rule}


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--labels", "nice"], "Invalid value for '--labels'"),
        (["--subset", "blue"], "subset: expected classes of"),
        (["--subset", "things"], "subset: expected classes of"),
        (["--pictures", "3"], "needs --out"),
        (["--window", "64"], "--window: only with --protocol groupvit"),
        (["--logit-scale", "40"], "--logit-scale: only with --protocol groupvit"),
        (["--background-rule", "probability", "--protocol", "groupvit"], "groupvit has its own rule"),
        (["--background-rule", "probability"], "--background-rule probability: give --threshold"),
        (["--dataset", "voc"], "expected the masks at"),
        (["--dataset", "voc", "--classes", "x.txt"], "only with --dataset folder"),
        (["--model", "nowhere.onnx"], "nowhere.onnx: no such model file"),
        (["--classes", "nowhere.txt"], "nowhere.txt: expected a text file"),
    ],
)
def test_bad_input_is_one_line(folder, color_model, pack, arguments, message):
    base = [] if "--model" in arguments else ["--model", color_model]
    result = invoke(folder, "--pack", pack, *base, *arguments)
    assert result.exit_code in (1, 2) and message in result.output and "Traceback" not in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ")


def test_pack_without_a_name_is_named(folder, color_model, tmp_path):
    LabelPack(["red"], vectors("red"), SPACE).save(tmp_path / "labels.npz")
    result = invoke(folder, "--model", color_model, "--pack", tmp_path / "labels.npz")
    assert result.exit_code == 1 and "has no vector for 1 of the names, for example 'green'" in result.output


def test_evaluate_from_python(folder, color_model, pack):
    segmenter = Segmenter.load(color_model).set_labels(LabelPack(NAMES[:2], vectors("red", "green"), SPACE))
    report = run(SegmenterPredict(segmenter), plain_folder(folder), ProtocolConfig(threshold=0.5), limit=1)
    assert report.summary()["photos"] == 1 and report.mean_iou() > 0.7
