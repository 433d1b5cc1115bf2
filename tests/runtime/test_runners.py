"""Runners: same face, same numbers, and input checks that name what is wrong."""

import dataclasses

import numpy as np
import pytest

from tests.color_model import DIM, SPACE, sidecar, vectors, write_color_model
from zeroseg.artifact import read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.base import OUTPUTS
from zeroseg.runtime.opening import open_runner
from zeroseg.sidecar import parse_sidecar

pytest.importorskip("onnx")


def feed(batch=1, height=32, width=64, names=("red", "blue")):
    image = np.random.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
    return {"image": image, "label_embeddings": vectors(*names)}


@pytest.fixture(scope="module")
def runner(color_model):
    return open_runner(read_artifact(color_model), threads=1)


def test_onnxruntime_gives_the_models_numbers(runner):
    given = feed(batch=2)
    output = runner.run(given)
    assert list(output) == list(OUTPUTS) and runner.backend == "onnxruntime"
    patches = given["image"].reshape(2, 3, 2, 16, 4, 16).mean((3, 5))
    logits = np.concatenate([10 * patches, np.zeros((2, 1, 2, 4))], 1)
    maps = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(output["segment_maps"], maps, atol=1e-5)
    np.testing.assert_allclose(output["segment_scores"], np.broadcast_to(np.eye(4)[:, [0, 2]], (2, 4, 2)), atol=1e-6)
    np.testing.assert_allclose(output["image_scores"], maps.mean((2, 3))[:, [0, 2]], atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_number_of_labels_is_free(runner, count):
    names = ["green", "red", "dark"][:count]
    assert runner.run(feed(names=names))["segment_scores"].shape == (1, 4, count)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((3, 32, 32), np.float32)}, r"image: expected \(B, 3, H, W\) float32, got \(3, 32, 32\)"),
        ({"image": np.zeros((1, 3, 32, 32), np.uint8)}, "image: .* got .* uint8"),
        ({"label_embeddings": np.zeros((2, 3), np.float32)}, rf"label_embeddings: expected \(N, {DIM}\) float32"),
        ({"label_embeddings": np.zeros((0, DIM), np.float32)}, "label_embeddings: expected at least one row"),
        ({"image": np.zeros((1, 3, 32, 70), np.float32)}, r"sides that are multiples of 32, got \(32, 70\)"),
        ({"image": np.zeros((1, 3, 0, 32), np.float32)}, "image: expected sides that are multiples of 32"),
        ({"other": np.zeros(1)}, r"feed: expected \['image', 'label_embeddings'\], got"),
    ],
)
def test_wrong_feed_is_named(runner, change, message):
    with pytest.raises(ValueError, match=message):
        runner.run(feed() | change)


def test_file_that_is_no_network(tmp_path):
    import hashlib

    content = b"not an onnx file"
    path = write_color_model(tmp_path, files={"colors.onnx": hashlib.sha256(content).hexdigest()})
    path.write_bytes(content)
    with pytest.raises(ZerosegError, match="colors.onnx: onnxruntime .* cannot load it") as error:
        open_runner(read_artifact(path))
    assert "\n" not in str(error.value)


def test_network_without_our_face(tmp_path):
    import hashlib

    import onnx

    path = write_color_model(tmp_path)
    model = onnx.load(path)
    del model.graph.output[2]
    onnx.save(model, path)
    path = write_changed(path, files={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(ZerosegError, match="not a zeroseg network, it has no image_scores"):
        open_runner(read_artifact(path))


def test_network_and_sidecar_disagree(tmp_path):
    path = write_color_model(tmp_path, embedding_dim=768)
    with pytest.raises(ZerosegError, match=f"takes label embeddings of {DIM} numbers, its description says 768"):
        open_runner(read_artifact(path))


def test_threads_must_be_positive(color_model):
    with pytest.raises(ZerosegError, match="threads: expected at least 1"):
        open_runner(read_artifact(color_model), threads=0)


def write_changed(path, **changes):
    import json

    document = json.loads(path.with_suffix(".json").read_text()) | changes
    path.with_suffix(".json").write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model.pt with random weights, and the model it was saved from."""
    torch = pytest.importorskip("torch")
    from zeroseg.config import ModelConfig
    from zeroseg.model import ZeroSeg, save_checkpoint

    torch.manual_seed(0)
    config = ModelConfig(
        width=32,
        depth=1,
        heads=2,
        head_width=32,
        head_heads=2,
        head_depths=(1, 1, 1),
        group_tokens=(6, 4),
        output_groups=(6, 4),
        embedding_dim=DIM,
        embedding_space=SPACE,
        projector_hidden=32,
        reconstruction=False,
        image_size=64,
    )
    model = ZeroSeg(config).eval()
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    save_checkpoint(path, model, sidecar=sidecar(name="random"))
    return path, model


def test_torch_runner_gives_the_models_numbers(checkpoint):
    import torch

    path, model = checkpoint
    artifact = read_artifact(path)
    assert artifact.backend == "torch" and artifact.sidecar.name == "random"
    given = feed(batch=2, height=64, width=96)
    output = open_runner(artifact, threads=1).run(given)
    with torch.no_grad():
        direct = model(torch.from_numpy(given["image"]))
        scores, image_scores = model.score(direct, torch.from_numpy(given["label_embeddings"]))
    assert output["segment_maps"].shape == (2, 4, 4, 6)
    np.testing.assert_allclose(output["segment_maps"].sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(output["segment_maps"][1, 2, 3, 5], direct.soft_map[1, 3 * 6 + 5, 2], atol=1e-6)
    np.testing.assert_allclose(output["segment_scores"], scores, atol=1e-6)
    np.testing.assert_allclose(output["image_scores"], image_scores, atol=1e-6)


def test_torch_runner_without_torch(checkpoint, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UnavailableError, match=r"back end torch needs torch.*pip install 'zeroseg\[train\]'"):
        read_artifact(checkpoint[0])


def test_artifact_is_immutable(color_model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_sidecar(sidecar(), "x").threshold = 1
