"""The threshold rules on mixtures whose best split is known, and against a search over every split."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.color_model import SPACE, vectors
from zeroseg.errors import ZerosegError
from zeroseg.segment.segmenter import Segmenter
from zeroseg.training.choose_threshold import RULES, check_rule, choose_threshold, histogram_text, main, write_threshold
from zeroseg.words import LabelPack


def mixture(share, low=(0.0, 1.0), high=(6.0, 1.0), n=40000, seed=0):
    rng = np.random.default_rng(seed)
    upper = int(share * n)
    return rng.permutation(np.concatenate([rng.normal(*low, n - upper), rng.normal(*high, upper)]))


@pytest.mark.parametrize("rule", RULES)
def test_equal_heaps_are_parted_in_the_middle(rule):
    assert choose_threshold(mixture(0.5), rule) == pytest.approx(3.0, abs=0.1)
    assert choose_threshold(mixture(0.5) * 0.01 - 5, rule) == pytest.approx(-4.97, abs=0.001)


def test_minimum_error_finds_the_bayes_split_of_unequal_heaps():
    # where 0.9 N(0, 1) and 0.1 N(5, 0.5) are equally dense
    x = np.linspace(0, 5, 100001)
    lower, upper = 0.9 * np.exp(-0.5 * x**2), 0.1 / 0.5 * np.exp(-0.5 * ((x - 5) / 0.5) ** 2)
    bayes = x[np.argmax(upper > lower)]
    assert choose_threshold(mixture(0.1, high=(5, 0.5)), "minimum-error") == pytest.approx(bayes, abs=0.15)


def test_otsu_equals_a_search_over_every_split():
    scores = np.random.default_rng(1).normal(size=200) ** 3
    x = np.sort(scores)
    best = max(range(2, 199), key=lambda i: i * (200 - i) * (x[:i].mean() - x[i:].mean()) ** 2)
    assert choose_threshold(scores, "otsu") == pytest.approx((x[best - 1] + x[best]) / 2, abs=1e-12)


def test_minimum_error_equals_a_search_over_every_split():
    scores = mixture(0.3, high=(4, 2), n=300)
    x = np.sort(scores)

    def cost(i):
        w = i / 300
        spread = w * np.log(x[:i].std()) + (1 - w) * np.log(x[i:].std())
        return 1 + 2 * spread - 2 * (w * np.log(w) + (1 - w) * np.log(1 - w))

    best = min(range(3, 298), key=cost)
    assert choose_threshold(scores, "minimum-error") == pytest.approx((x[best - 1] + x[best]) / 2, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_two_scores_and_ties_are_parted_between_them(rule):
    assert choose_threshold(np.array([0.25, 0.75]), rule) == 0.5
    assert choose_threshold(np.array([1.0] * 50 + [3.0] * 50), rule) == 2.0


@pytest.mark.parametrize("rule", RULES)
def test_a_few_outliers_are_no_heap(rule):
    scores = np.concatenate([mixture(0.5), [100.0, 200.0]])
    assert choose_threshold(scores, rule) == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize(
    "scores,rule,message",
    [
        ([1.0, 1.0], "otsu", "at least two different finite values"),
        ([1.0], "otsu", "at least two different finite values"),
        ([1.0, np.nan, 2.0], "otsu", "at least two different finite values"),
        ([1.0, 2.0], "mean", "rule: expected one of otsu, minimum-error"),
    ],
)
def test_bad_scores_are_refused(scores, rule, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold(np.array(scores), rule)


def test_histogram_marks_the_threshold():
    lines = histogram_text(np.array([0.0, 0.0, 1.0]), 0.6, bins=2).splitlines()
    assert len(lines) == 2 and lines[1].endswith("<- threshold") and "threshold" not in lines[0]


def test_command_chooses_prints_and_stores(tmp_path, color_model):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, colour in enumerate([(255, 0, 0), (0, 0, 0), (128, 0, 0)]):
        photo = np.zeros((64, 96, 3), np.uint8)
        photo[:, : 32 * (i + 1)] = colour
        Image.fromarray(photo).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    model = tmp_path / color_model.name
    for file in (color_model, color_model.with_suffix(".json")):
        shutil.copy(file, tmp_path)
    before = json.loads(model.with_suffix(".json").read_text())
    pack = LabelPack(["red", "green"], vectors("red", "green"), SPACE)
    pack.save(tmp_path / "labels.npz")
    arguments = [str(folder), "--model", str(model), "--labels", str(tmp_path / "labels.npz"), "--write"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout.splitlines()[-1])
    assert "left out" in result.stderr and "broken.png" in result.stderr
    assert (document["photos"], document["left_out"], document["labels"]) == (3, 1, 2)
    assert document["rule"] == "otsu" and 0 < document["threshold"] < 1
    after = json.loads(model.with_suffix(".json").read_text())
    assert after == before | {"threshold": document["threshold"]}
    assert Segmenter.load(model).sidecar.threshold == document["threshold"]


def test_rule_of_two_gaussians_is_refused_where_scores_fall_off(tmp_path, color_model):
    for file in (color_model, color_model.with_suffix(".json")):
        shutil.copy(file, tmp_path)
    described = tmp_path / color_model.with_suffix(".json").name
    document = json.loads(described.read_text())
    described.write_text(json.dumps(document | {"card": {"score_share": 0.65}}))
    Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / "0.png")
    LabelPack(["red", "green"], vectors("red", "green"), SPACE).save(tmp_path / "labels.npz")
    arguments = [str(tmp_path), "--model", str(tmp_path / color_model.name), "--labels", str(tmp_path / "labels.npz")]
    refused = CliRunner().invoke(main, [*arguments, "--rule", "minimum-error", "--write"])
    assert refused.exit_code == 1 and "fall off below 0.65 of the best one's" in refused.output
    assert len(refused.output.strip().splitlines()) == 1
    assert json.loads(described.read_text())["threshold"] == document["threshold"]
    check_rule("otsu", Segmenter.load(tmp_path / color_model.name).sidecar)


def test_command_names_an_empty_folder(tmp_path, color_model):
    result = CliRunner().invoke(main, [str(tmp_path), "--model", str(color_model), "--labels", "red"])
    assert result.exit_code == 1 and "no image in" in result.output and "Traceback" not in result.output


def test_threshold_is_stored_in_a_checkpoint(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    torch.save({"format": 1, "config": {}, "state_dict": {}, "sidecar": {"threshold": 0.0, "name": "x"}}, path)
    write_threshold(path, 0.25)
    assert torch.load(path, weights_only=True)["sidecar"] == {"threshold": 0.25, "name": "x"}
    with pytest.raises(ZerosegError, match="expected an .onnx or .pt model"):
        write_threshold(tmp_path / "model.bin", 0.25)
