"""Model folders, and their upload and download, with a stand-in for the Hub on loopback."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.color_model import NAMES, sidecar, vectors
from tests.pretrained.hub_server import Hub
from zeroseg.cli import main
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")
pytest.importorskip("safetensors", reason="safetensors is not installed (extra hub)")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, with an empty cache."""
    from huggingface_hub import constants

    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.close()


@pytest.fixture
def folder(color_model, tmp_path):
    """A model folder of the colour model."""
    Segmenter.load(color_model, threads=1).save_pretrained(tmp_path / "colors", license="apache-2.0", datasets=["coco"])
    return tmp_path / "colors"


@pytest.fixture
def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def finds_red(segmenter) -> bool:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32] = [255, 0, 0]
    result = segmenter.set_labels(LabelPack(NAMES[:1], vectors("red"))).segment(image, edges=False)
    return bool((result.label_map[:24] == 0).all() and (result.label_map[40:] == -1).all())


def test_a_folder_has_the_whole_description(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.onnx"]
    card = huggingface_hub.ModelCard.load(folder / "README.md").data.to_dict()
    assert card == {
        "license": "apache-2.0",
        "library_name": "zeroseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["zeroseg", "open-vocabulary", "zero-shot"],
        "datasets": ["coco"],
        "metrics": ["mean_iou"],
    }
    assert finds_red(Segmenter.from_pretrained(folder, threads=1)) and finds_red(Segmenter.load(str(folder), threads=1))
    with pytest.raises(ZerosegError, match="revision 'v1': only for models on the Hub"):
        Segmenter.from_pretrained(folder, revision="v1")
    with pytest.raises(ZerosegError, match="has no model.safetensors, which back end torch reads"):
        Segmenter.from_pretrained(folder, backend="torch")


def test_safetensors_weights_give_the_same_outputs(color_model, tmp_path):
    """A model.pt and its folder have equal weights, outputs and descriptions."""
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    from tests.model.test_checkpoint import SMALL
    from zeroseg.model.checkpoint import load_checkpoint, save_checkpoint
    from zeroseg.model.zeroseg import ZeroSeg

    config = replace(SMALL, embedding_dim=512)
    about = sidecar(name="small", segments=8)
    save_checkpoint(tmp_path / "any.pt", ZeroSeg(config).eval(), sidecar=about, half=True)
    segmenter = Segmenter.load(tmp_path / "any.pt", threads=1)
    segmenter.save_pretrained(tmp_path / "small")
    assert not list((tmp_path / "small").glob("*.pt"))
    stored = load_checkpoint(tmp_path / "any.pt").state
    with safe_open(tmp_path / "small/model.safetensors", "pt") as weights:
        assert set(weights.keys()) == set(stored)
        for name in weights.keys():
            assert torch.equal(weights.get_tensor(name).float(), stored[name].float())
            assert weights.get_tensor(name).dtype in (torch.float16, torch.int64, torch.bool)
    again = Segmenter.from_pretrained(tmp_path / "small", threads=1)
    assert again.runner.backend == "torch" and again.sidecar.threshold == segmenter.sidecar.threshold
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    ours, theirs = again.encode(image), segmenter.encode(image)
    np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
    again.save_pretrained(tmp_path / "twice")
    assert (tmp_path / "twice/config.json").read_text() == (tmp_path / "small/config.json").read_text()
    with pytest.raises(ZerosegError, match="are different models"):
        segmenter.save_pretrained(tmp_path / "both", onnx=color_model)
    path = tmp_path / "small/model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ZerosegError, match=r"model\.safetensors: does not match its sidecar"):
        Segmenter.from_pretrained(tmp_path / "small")


def test_downloaded_once_then_from_the_cache_then_offline(hub, files, monkeypatch):
    hub.add("me/colors", files)
    assert finds_red(Segmenter.from_pretrained("me/colors", threads=1))
    assert hub.loaded() == ["config.json", "model.onnx"]
    hub.requests.clear()
    assert finds_red(Segmenter.load("hf:me/colors", threads=1)) and hub.loaded() == []
    hub.requests.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert finds_red(Segmenter.from_pretrained("me/colors", threads=1)) and not hub.requests
    with pytest.raises(
        UnavailableError, match="me/other: config.json is not in the cache, and the Hub cannot be reached"
    ):
        Segmenter.from_pretrained("me/other")


def test_a_revision_is_one_commit(hub, files):
    changed = json.loads(files["config.json"])
    changed["sidecar"]["threshold"] = 0.9
    first = hub.add("me/colors", files, "v1")
    hub.add("me/colors", files | {"config.json": json.dumps(changed).encode()})
    assert Segmenter.from_pretrained("me/colors").sidecar.threshold == 0.9
    for revision in ("v1", first):
        assert Segmenter.from_pretrained("me/colors", revision=revision).sidecar.threshold == 0.5
    assert Segmenter.load("hf:me/colors@v1").sidecar.threshold == 0.5


@pytest.mark.parametrize(
    ("name", "revision", "without", "message"),
    [
        ("me/colors", "v9", None, "me/colors: has no revision 'v9'; give a branch, a tag or a commit"),
        ("me/nothing", None, None, "me/nothing: no such model on the Hub, or one that needs a login (hf auth login)"),
        ("me/colors", None, "config.json", "me/colors: has no config.json, which every zeroseg model has"),
        ("me/colors", None, "model.onnx", "me/colors: has no model.onnx, which every zeroseg model has"),
        ("a b/c", None, None, "'a b/c': expected owner/name of a model on the Hub, or an existing folder"),
    ],
)
def test_what_is_missing_is_one_line(hub, files, name, revision, without, message):
    hub.add("me/colors", {file: data for file, data in files.items() if file != without})
    with pytest.raises(ZerosegError) as refused:
        Segmenter.from_pretrained(name, revision=revision)
    assert str(refused.value) == message


def test_an_interrupted_download_continues(hub, files, monkeypatch):
    """After a cut, the library itself or a second call downloads the rest; the file is complete in the end."""
    hub.add("me/colors", files)
    hub.cut["model.onnx"] = [1000, 500]
    try:
        segmenter = Segmenter.from_pretrained("me/colors", threads=1)
    except UnavailableError as error:
        assert "me/colors: model.onnx could not be transferred" in str(error)
        hub.cut.clear()
        segmenter = Segmenter.from_pretrained("me/colors", threads=1)
    assert finds_red(segmenter) and hub.loaded().count("model.onnx") >= 2


def test_a_damaged_file_is_downloaded_again(hub, files, tmp_path):
    hub.add("me/colors", files)
    Segmenter.from_pretrained("me/colors")
    [cached] = {path.resolve() for path in (tmp_path / "cache").rglob("model.onnx")}
    cached.write_bytes(files["model.onnx"][:-1] + b"\x00")
    assert finds_red(Segmenter.from_pretrained("me/colors", threads=1))
    hub.add("me/bad", files | {"model.onnx": files["model.onnx"][:-1] + b"\x00"})
    with pytest.raises(ZerosegError, match="does not match its sidecar"):
        Segmenter.from_pretrained("me/bad")


def test_push_and_download(hub, folder, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    (folder / "notes.txt").write_text("mine alone")
    done = CliRunner().invoke(main, ["push", str(folder), "me/colors"])
    assert done.exit_code == 0 and done.output.startswith(f"sent: {hub.url}/me/colors/commit/"), done.output
    [stored] = hub.repos["me/colors"].values()
    assert stored == files
    assert finds_red(Segmenter.from_pretrained("me/colors", threads=1))
    address = Segmenter.from_pretrained(folder).push_to_hub("me/again")
    assert address.startswith(f"{hub.url}/me/again/commit/") and finds_red(Segmenter.from_pretrained("me/again"))
    (folder / "model.onnx").write_bytes(b"damaged")
    done = CliRunner().invoke(main, ["push", str(folder), "me/colors"])
    assert done.exit_code == 1 and "does not match its sidecar" in done.output


def test_the_commands_use_the_environment(hub, files, tmp_path):
    """As a user runs it: in another process, with HF_ENDPOINT and HF_HOME."""
    hub.add("me/colors", files)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    LabelPack(NAMES[:1], vectors("red")).save(tmp_path / "labels.npz")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from zeroseg.cli import infer; infer()"
    command = [sys.executable, "-c", code, "photo.png", "--labels", "labels.npz", "--model", "hf:me/colors"]
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "model colors on onnxruntime" in done.stdout and (tmp_path / "home/hub/models--me--colors").is_dir()


def test_what_save_pretrained_refuses(color_model, folder, tmp_path):
    segmenter = Segmenter.load(color_model, threads=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(ZerosegError, match="mine: already exists and is not a zeroseg model; choose another folder"):
        segmenter.save_pretrained(tmp_path / "mine")
    (folder / "README.md").write_text("my own card")
    segmenter.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "my own card"
    with pytest.raises(ZerosegError, match="config.json: does not describe a zeroseg model"):
        (tmp_path / "mine/config.json").write_text('{"model_type": "bert"}')
        Segmenter.from_pretrained(tmp_path / "mine")
