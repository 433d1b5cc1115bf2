"""zeroseg eval --suite ovss8 on the eight sets in miniature: every cell against an independent computation, resuming
after a kill, and sets that are not there.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.color_model import SPACE, vectors, write_color_model
from tests.evaluation import miniature_sets as sets
from zeroseg.commands.eval import evaluate
from zeroseg.evaluation import suite_run
from zeroseg.evaluation.network import SegmenterPredict
from zeroseg.evaluation.published_names import WORDS
from zeroseg.evaluation.published_rows import COLUMNS, ROWS
from zeroseg.words import LabelPack

THRESHOLD = 0.5  # of the colour model
PHOTOS = 2
# sha256 of SCLIP's lists (wangf3014/SCLIP b56bd30, configs/cls_*.txt), words joined by "," and classes by newlines
SCLIP = {
    "voc": "d4f65f0e39e48dc3",
    "context": "e29ff1a0eaea71eb",
    "coco-object": "d31fe6fb764ee277",
    "voc20": "fd50c95cce80a435",
    "cityscapes": "6f6782fc1bf92bfd",
    "context59": "cd808465f06a1616",
    "ade20k": "e53ded02c488bdb9",
    "coco-stuff": "fb98709b9ab1baff",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    sets.write_sets(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_color_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A vector for every name of every set: the names that a colour stands for have that colour's, whichever set asks;
    others are like nothing in a photo."""
    colour = {}
    for column in COLUMNS:
        for name, i in sets.class_of_colour(column).items():
            colour.setdefault(sets.names_of(column)[i], name)
    names = list(dict.fromkeys(name for column in COLUMNS for name in sets.names_of(column) if name != "background"))
    nothing = np.eye(1, 512, 100, dtype=np.float32)
    rows = np.concatenate([vectors(colour[name]) if name in colour else nothing for name in names])
    path = tmp_path_factory.mktemp("pack") / "labels.npz"
    LabelPack(names, rows, SPACE).save(path)
    return path


def call(root, out, model, pack, *more):
    arguments = [root, "--suite", "ovss8", "--model", model, "--pack", pack, "--edges", "off", "--out", out, *more]
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def last_json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def expected(root, column: str, pack) -> float:
    """mIoU of the colour model, from its definition: the best of four soft maps at each pixel, the first name in the
    list whose vector is that colour's, background where no name has a score of at least the threshold."""
    pack = LabelPack.load(pack)
    row_of = {name: row for name, row in zip(pack.names, pack.vectors, strict=True)}
    asked = [(i, row_of[n]) for i, n in enumerate(sets.names_of(column)) if n != "background"]
    scores = np.stack([row for _, row in asked])[:, :4]  # of red, green, blue and dark
    best, ids = scores.max(0), np.array([i for i, _ in asked])[scores.argmax(0)]
    if column in sets.WITH_BACKGROUND:
        ids = np.where(best >= THRESHOLD, ids, 0)
    pairs = []
    for i in range(PHOTOS):
        photo, mask = (np.asarray(Image.open(root / name.format(i))) for name in sets.FILES[column])
        bright = (photo / 255 - 0.5) / 0.5
        cells = bright.reshape(4, 16, 4, 16, 3).mean((1, 3))
        logits = np.concatenate([10 * cells, np.zeros((4, 4, 1))], 2)
        maps = torch.from_numpy(logits).permute(2, 0, 1).softmax(0)
        large = torch.nn.functional.interpolate(maps[None], (64, 64), mode="bilinear")[0]
        pairs.append((sets.truth_ids(column, mask), ids[large.argmax(0).numpy()]))
    return sets.mean_iou(column, pairs)


def test_every_cell_is_the_independent_value(root, model, pack, tmp_path):
    out = tmp_path / "out"
    result = call(root, out, model, pack)
    document = last_json(result)
    for column in COLUMNS:
        assert document["miou"][column] == pytest.approx(100 * expected(root, column, pack), abs=1e-6), column
    assert document["mean"] == pytest.approx(np.mean([document["miou"][column] for column in COLUMNS]))
    assert len({round(value, 3) for value in document["miou"].values()}) > 5  # no constant passes for a measurement
    assert json.loads((out / "report.json").read_text()) == document
    text = (out / "report.md").read_text()
    [row] = [line for line in text.splitlines() if line.startswith("| **colors** |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")][2:]
    assert cells == [f"{document['miou'][column]:.1f}*" for column in COLUMNS] + [f"{document['mean']:.1f}*"]
    assert text.index("| SFP |") < text.index("| **colors** |") and "*: not the number of photos" in text
    assert "its card does not say" in text and "official words" in text and text in result.stdout


class Killed(KeyboardInterrupt):
    pass


@pytest.fixture
def asked(monkeypatch):
    """How often the network ran; `limit` kills the process at that call."""
    count = {"runs": 0, "limit": None}
    original = SegmenterPredict.__call__

    def counted(self, photo, size=None):
        if count["runs"] == count["limit"]:
            raise Killed
        count["runs"] += 1
        return original(self, photo, size)

    monkeypatch.setattr(SegmenterPredict, "__call__", counted)
    monkeypatch.setattr(suite_run, "SAVE_EVERY_S", 0.0)
    return count


def counts(document):
    """What does not depend on the clock."""
    timed = ("predict_ms", "decide_ms", "measured")
    return {c: {k: v for k, v in s.items() if k not in timed} for c, s in document["sets"].items()}


def test_a_killed_run_goes_on_at_its_photo_and_a_finished_one_is_not_made_again(root, model, pack, tmp_path, asked):
    whole = last_json(call(root, tmp_path / "whole", model, pack))
    assert asked["runs"] == 8 * PHOTOS
    out, asked["runs"], asked["limit"] = tmp_path / "killed", 0, 5  # at the second photo of the third set
    assert call(root, out, model, pack).exit_code != 0 and not (out / "report.json").exists()
    asked["runs"], asked["limit"] = 0, None
    again = last_json(call(root, out, model, pack))
    assert asked["runs"] == 8 * PHOTOS - 5
    assert counts(again) == counts(whole) and again["miou"] == whole["miou"]
    asked["runs"] = 0
    assert last_json(call(root, out, model, pack))["miou"] == whole["miou"] and asked["runs"] == 0
    # another threshold concerns the three sets with a background; another model all
    changed = last_json(call(root, out, model, pack, "--threshold", "0.9999"))
    assert asked["runs"] == 3 * PHOTOS and changed["sets"]["VOC21"]["config"]["threshold"] == 0.9999
    asked["runs"] = 0
    call(root, out, write_color_model(tmp_path, threshold=0.25), pack)
    assert asked["runs"] == 3 * PHOTOS  # its network is the same file; its threshold is its own
    (out / "cityscapes.npz").write_bytes(b"damaged")
    asked["runs"] = 0
    last_json(call(root, out, model, pack, "--threshold", "0.25"))
    assert asked["runs"] == PHOTOS


def test_a_missing_set_is_named_and_leaves_its_cell_and_the_mean_empty(root, model, pack, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    (few / "VOCdevkit").symlink_to(root / "VOCdevkit")
    given = ["--set", f"coco={root / 'coco_stuff164k'}", "--set", f"cityscapes={root / 'cityscapes'}"]
    result = call(few, tmp_path / "out", model, pack, *given)
    document = last_json(result)
    assert document["miou"]["ADE"] is None and document["mean"] is None and list(document["missing"]) == ["ADE"]
    assert document["miou"]["City"] == pytest.approx(100 * expected(root, "City", pack), abs=1e-6)
    [note] = [line for line in result.stderr.splitlines() if line.startswith("Note: ADE is skipped: ")]
    assert str(few / "ade/ADEChallengeData2016") in note
    assert "No mean: 7 of 8 sets were measured." in result.stdout
    [row] = [line for line in result.stdout.splitlines() if line.startswith("| **colors** |")]
    assert row.split("|")[9].strip() == "–" and row.split("|")[11].strip() == "–"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "kitti=x"], "--set kitti: expected one of voc, context,"),
        (["--set", "ade20k"], "expected NAME=PATH"),
        (["--set", "ade20k=nowhere"], "nowhere: expected a folder, found nothing"),
        (["--dataset", "voc"], "--dataset: not with --suite"),
        (["--sweep"], "--sweep: not with --suite"),
        (["--labels", "absent"], "--labels absent: a suite has published, official, plain"),
    ],
)
def test_wrong_options_are_one_line(root, model, pack, tmp_path, more, message):
    result = call(root, tmp_path / "out", model, pack, *more)
    assert result.exit_code in (1, 2) and message in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")


def test_a_folder_without_any_set_is_one_line(model, pack, tmp_path):
    result = call(tmp_path, tmp_path / "out", model, pack)
    assert result.exit_code == 1 and "expected some of the suite's sets" in result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_published_words_are_sclip_s():
    for name, digest in SCLIP.items():
        text = "\n".join(",".join(words) for words in WORDS[name])
        assert hashlib.sha256(text.encode()).hexdigest().startswith(digest), name


def test_published_rows_are_those_of_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "open_clip.md").read_text(encoding="utf-8")
    shown = {"maskclip": "MaskCLIP", "naclip": "NACLIP", "scclip": "SC-CLIP", "sfp": "SFP"}
    rows = {row.method: [*row.miou, row.mean] for row in ROWS}
    for reading, method in shown.items():
        [line] = re.findall(rf"^\| {reading} \|((?: [\d.]+ \|){{9}})$", text, re.M)
        assert [float(cell) for cell in line.strip(" |").split("|")] == rows[method]
    for row in ROWS:  # the printed means are of unrounded figures; SFP's is not
        assert abs(np.mean(row.miou) - row.mean) < (0.2 if row.method == "SFP" else 0.06), row.method
