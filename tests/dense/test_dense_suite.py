"""zeroseg eval --suite with an open_clip model: the published words, SCLIP's rule for background, Cityscapes' size."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from tests.evaluation import miniature_sets as sets  # noqa: E402
from zeroseg import Segmenter  # noqa: E402
from zeroseg.commands.eval import evaluate  # noqa: E402
from zeroseg.evaluation import suite_run  # noqa: E402
from zeroseg.evaluation.published_names import WORDS, published_labels  # noqa: E402

VOC_SCALE, VOC_THRESHOLD = 65, 0.1  # wangf3014/SCLIP b56bd30, configs/cfg_voc21.py


@pytest.fixture
def root(tmp_path):
    sets.write_sets(tmp_path / "all")
    (tmp_path / "data").mkdir()
    for name in ("cityscapes", "VOCdevkit"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "all" / name)
    return tmp_path / "data"


def call(root, model, *more):
    result = CliRunner().invoke(
        evaluate, [str(a) for a in (root, "--suite", "ovss8", "--model", model, "--out", root / "out", *more)]
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def sclip_answer(maps: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Class ids of VOC21 as SCLIP decides: softmax over the words of the scaled scores at each pixel, the best word of
    each class, the best class, and background where that is below the threshold."""
    large = torch.nn.functional.interpolate(maps[None].double(), size, mode="bilinear")[0]
    probability = (VOC_SCALE * large).softmax(0)
    classes, start = [], 0
    for words in WORDS["voc"]:
        classes.append(probability[start : start + len(words)].amax(0))
        start += len(words)
    best, ids = torch.stack(classes).max(0)
    return torch.where(best < VOC_THRESHOLD, 0, ids).numpy()


def test_voc21_is_measured_by_the_published_rule(root, tiny):
    model = f"{tiny}@templates=1,reading=naclip"
    document = call(root, model)
    segmenter = Segmenter.load(model).set_labels(list(published_labels("voc").names))
    pairs = []
    for i in range(2):
        photo, mask = (root / name.format(i) for name in sets.FILES["VOC21"])
        maps = torch.from_numpy(segmenter.encode(photo).maps_of(segmenter.pack.vectors))
        truth = sets.truth_ids("VOC21", np.asarray(Image.open(mask)))
        pairs.append((truth, sclip_answer(maps, truth.shape)))
    assert 0.02 < np.mean([answer > 0 for _, answer in pairs]) < 0.98
    assert document["miou"]["VOC21"] == pytest.approx(100 * sets.mean_iou("VOC21", pairs), abs=0.1)  # float32 ties
    assert document["sets"]["VOC21"]["words"] == "published" and document["missing"].keys() >= {"ADE", "Stuff"}
    assert "no training" in document["note"]


def test_settings_follow_the_published_ones_and_options_go_before_them(root, tiny):
    plan = call(root, f"{tiny}@templates=1", "-n")["sets"]
    assert plan["VOC21"]["config"]["background_rule"] == "probability"
    assert (plan["VOC21"]["config"]["logit_scale"], plan["VOC21"]["config"]["threshold"]) == (65, 0.1)
    assert plan["VOC20"]["config"]["background_rule"] == "score"  # nothing is background there
    assert (plan["VOC21"]["short_side"], plan["City"]["short_side"]) == (96, 160)  # as 336 and 560
    plan = call(root, f"{tiny}@templates=1,short_side=64", "-n", "--background-rule", "score", "--threshold", "0.2")[
        "sets"
    ]
    assert (plan["City"]["short_side"], plan["VOC21"]["config"]["threshold"]) == (64, 0.2)
    assert plan["VOC21"]["config"]["background_rule"] == "score"


def test_another_file_of_the_helper_is_another_model(tiny, tmp_path):
    """Results of the same name are not resumed then."""
    helper = tmp_path / "dino.pth"
    options = SimpleNamespace(model=f"{tiny}@helper={helper}")
    segmenter = SimpleNamespace(_file=None, runner=SimpleNamespace(backend="torch"))
    seen = []
    for content in (b"first", b"second"):
        helper.write_bytes(content)
        seen.append(suite_run._identity(options, segmenter))
    assert seen[0] != seen[1] and seen[0]["spec"] == seen[1]["spec"]
