"""--reading, --helper and --denoise: the same as the settings in the name, in every command that has them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("timm")

from tests.dense.test_helper import make_vit  # noqa: E402
from zeroseg import Segmenter  # noqa: E402
from zeroseg.cli import main as zeroseg  # noqa: E402
from zeroseg.commands import infer_run, live_run  # noqa: E402
from zeroseg.dense.spec import with_settings  # noqa: E402
from zeroseg.errors import ZerosegError  # noqa: E402
from zeroseg.evaluation import run as evaluation  # noqa: E402
from zeroseg.export.cli import main as export  # noqa: E402

NAME = "open_clip:ViT-B-16/openai"
PLAIN = "templates=1,background=none,short_side=64"


@pytest.fixture
def helper(tmp_path):
    torch.save(make_vit().state_dict(), tmp_path / "dino.pth")
    return str(tmp_path / "dino.pth")


def test_options_give_the_embeddings_of_the_settings(tiny, helper):
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    tiny = f"{tiny}@{PLAIN}"
    seen = [Segmenter.load(tiny).runner.run(image)["place_embeddings"]]
    for name, value in (("reading", "naclip"), ("reading", "scclip"), ("helper", helper)):
        by_option = Segmenter.load(with_settings(tiny, {name: value})).runner.run(image)["place_embeddings"]
        by_name = Segmenter.load(f"{tiny},{name}={value}").runner.run(image)["place_embeddings"]
        np.testing.assert_array_equal(by_option, by_name)
        assert all(other.shape != by_name.shape or np.abs(other - by_name).max() > 1e-3 for other in seen)
        seen.append(by_name)


def test_a_photo_has_the_scores_of_the_settings(tiny, helper, tmp_path):
    """Through the command: scores, and labels that are dropped."""
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 88, 3), dtype=np.uint8)).save(photo)

    def found(model, *options):
        arguments = ["infer", photo, "--labels", "cat,dog,car", "--model", model, "--out", tmp_path / "out"]
        done = CliRunner().invoke(zeroseg, list(map(str, [*arguments, "--save", "json", *options])))
        assert done.exit_code == 0, done.output
        document = json.loads((tmp_path / "out" / "photo.json").read_text())
        return [label["score"] for label in document["labels"]], document["found"]

    default = found(f"{tiny}@{PLAIN}")
    for option, value, settings in (
        ("--reading", "clearclip", "reading=clearclip"),
        ("--helper", helper, f"helper={helper}"),
        ("--denoise", "0.9999", "denoise=0.9999"),
    ):
        assert found(f"{tiny}@{PLAIN}", option, value) == found(f"{tiny}@{PLAIN},{settings}") != default, option


def test_every_command_with_the_options_gets_the_name_with_the_settings(tmp_path, monkeypatch):
    wanted, seen = f"{NAME}@reading=naclip,denoise=0.5", []
    monkeypatch.setattr(infer_run, "run_infer", lambda sources, options, started: seen.append(options.model))
    monkeypatch.setattr(live_run, "serve_photos", lambda options: seen.append(options.model))
    monkeypatch.setattr(evaluation, "run_eval", lambda options: seen.append(options.model))
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    model = ["--model", NAME, "--reading", "naclip", "--denoise", "0.5"]
    for command in (["infer", str(tmp_path / "photo.png"), "--labels", "cat"], ["serve", "--labels", "cat"]):
        done = CliRunner().invoke(zeroseg, [*command, *model])
        assert done.exit_code == 0, done.output
    assert CliRunner().invoke(zeroseg, ["eval", str(tmp_path), *model]).exit_code == 0
    assert seen == [wanted] * 3
    done = CliRunner().invoke(export, [NAME, "--onnx", "-n", *model[2:]])
    assert done.exit_code == 0 and f"would export {wanted} to ViT-B-16.onnx" in done.output


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (None, {"reading": "sfp"}, "--reading: the bundled model is used as it is; the option is for open_clip and"),
        ("tiny", {"helper": "dino_vitb8"}, "--helper: tiny is used as it is"),
        ("model.onnx", {"denoise": 0.0}, "--denoise: model.onnx is used as it is"),
        (f"{NAME}@reading=sclip", {"reading": "sfp"}, "--reading sfp: the model's name says reading=sclip; leave out"),
        (f"{NAME}@denoise=0", {"denoise": 0.5}, "--denoise 0.5: the model's name says denoise=0"),
        (NAME, {"reading": "sfp", "helper": "x.pth"}, "helper: replaces the reading; leave out reading=sfp"),
        (f"{NAME}@reading=sfp", {"helper": "x.pth"}, "helper: replaces the reading; leave out reading=sfp"),
        ("radio:c-radio_v3-b", {"reading": "sfp"}, "RADIO has one reading, radseg"),
        (NAME, {"helper": "a,b.pth"}, "--helper: expected a value without a comma, got 'a,b.pth'; rename the file"),
        (NAME, {"helper": ""}, "helper: expected a name or a file"),
        (NAME, {"denoise": float("nan")}, "denoise: expected a probability from 0 to 1, got 'nan'"),
    ],
)
def test_what_does_not_go_together_is_one_line(model, options, message):
    with pytest.raises(ZerosegError, match=message.replace("(", "[(]")) as error:
        with_settings(model, options)
    assert "\n" not in str(error.value)


def test_settings_that_agree_are_written_once():
    assert with_settings(f"{NAME}@denoise=.50", {"denoise": 0.5, "reading": None}) == f"{NAME}@denoise=.50"
    assert with_settings(f"{NAME}@window=336", {"helper": "h.pth"}) == f"{NAME}@window=336,helper=h.pth"
    assert with_settings(None, {"reading": None}) is None
    assert with_settings("radio:x", {"denoise": 1e-5}) == "radio:x@denoise=1e-05"


def test_a_command_with_a_model_that_has_no_readings_ends_in_one_line(tmp_path):
    done = CliRunner().invoke(zeroseg, ["infer", str(tmp_path), "--labels", "cat", "--reading", "sfp"])
    assert done.exit_code == 1 and done.output.count("\n") == 1 and "the bundled model is used as it is" in done.output
