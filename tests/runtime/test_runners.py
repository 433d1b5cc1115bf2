"""Runners: one signature, the model's numbers, and input checks that name what is wrong."""

import dataclasses
import hashlib
import sys

import numpy as np
import pytest

from tests.color_model import DIM, NAMES, SPACE, sidecar, vectors, write_color_model
from zeroseg.artifact import read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.base import OUTPUTS
from zeroseg.runtime.opening import open_runner
from zeroseg.sidecar import parse_sidecar

pytest.importorskip("onnx")


def images(batch=1, height=32, width=64):
    return np.random.uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def runner(color_model):
    return open_runner(read_artifact(color_model), threads=1)


def test_onnxruntime_gives_the_models_numbers(runner):
    image = images(batch=2)
    output = runner.run(image)
    assert list(output) == list(OUTPUTS) and runner.backend == "onnxruntime"
    patches = image.reshape(2, 3, 2, 16, 4, 16).mean((3, 5))
    logits = np.concatenate([10 * patches, np.zeros((2, 1, 2, 4))], 1)
    maps = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(output["segment_maps"], maps, atol=1e-5)
    np.testing.assert_array_equal(output["segment_embeddings"], np.broadcast_to(vectors(*NAMES), (2, 4, DIM)))
    np.testing.assert_allclose(output["image_embedding"], maps.mean((2, 3)) @ vectors(*NAMES), atol=1e-5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 32, 32), np.float32), r"image: expected \(B, 3, H, W\) float32, got \(3, 32, 32\)"),
        (np.zeros((1, 3, 32, 32), np.uint8), "image: .* got .* uint8"),
        (np.zeros((1, 1, 32, 32), np.float32), r"image: expected \(B, 3, H, W\) float32, got \(1, 1, 32, 32\)"),
        (np.zeros((1, 3, 32, 70), np.float32), r"sides that are multiples of 32, got \(1, 3, 32, 70\)"),
        (np.zeros((1, 3, 0, 32), np.float32), "image: expected sides that are multiples of 32"),
        (np.zeros((0, 3, 32, 32), np.float32), "image: expected at least one image"),
        ({"image": np.zeros((1, 3, 32, 32), np.float32)}, "image: expected an array"),
    ],
)
def test_a_wrong_image_is_named(runner, image, message):
    with pytest.raises(ValueError, match=message):
        runner.run(image)


def test_a_runner_is_a_context_manager(color_model):
    closed = []
    with open_runner(read_artifact(color_model), threads=1) as runner:
        runner.close = lambda: closed.append(True)
        assert runner.run(images())["segment_maps"].shape == (1, 4, 2, 4) and not closed
    assert closed == [True]


def test_file_that_is_no_network(tmp_path):
    content = b"not an onnx file"
    path = write_color_model(tmp_path, files={"colors.onnx": hashlib.sha256(content).hexdigest()})
    path.write_bytes(content)
    with pytest.raises(ZerosegError, match="colors.onnx: onnxruntime .* cannot load it") as error:
        open_runner(read_artifact(path))
    assert "\n" not in str(error.value)


def test_network_without_our_outputs(tmp_path):
    import onnx

    path = write_color_model(tmp_path)
    model = onnx.load(path)
    del model.graph.output[2]
    onnx.save(model, path)
    path = write_changed(path, files={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(ZerosegError, match="not a zeroseg network, it has no image_embedding"):
        open_runner(read_artifact(path))


def older_network(path):
    """The graph of format 1: labels are an input, scores are an output."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    del model.graph.output[1:], model.graph.node[-1]
    float32 = TensorProto.FLOAT
    model.graph.input.append(helper.make_tensor_value_info("label_embeddings", float32, ["N", DIM]))
    model.graph.node.append(helper.make_node("Transpose", ["label_embeddings"], ["columns"], perm=[1, 0]))
    model.graph.node.append(helper.make_node("MatMul", ["segment_embeddings", "columns"], ["segment_scores"]))
    model.graph.node.append(helper.make_node("ReduceMax", ["segment_scores"], ["image_scores"], axes=[1], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("segment_scores", float32, ["B", 4, "N"]))
    model.graph.output.append(helper.make_tensor_value_info("image_scores", float32, ["B", "N"]))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_takes_labels_is_refused_with_the_command_that_makes_it_again(tmp_path, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    path = older_network(write_color_model(tmp_path))
    path = write_changed(path, files={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(ZerosegError, match="takes the labels as an input.* zeroseg-export model.pt --onnx$") as error:
        open_runner(read_artifact(path, backend), threads=1)
    assert "\n" not in str(error.value)


def test_a_sidecar_of_format_1_is_refused_with_the_command_that_makes_it_again(tmp_path):
    path = older_network(write_color_model(tmp_path))
    path = write_changed(path, files={path.name: hashlib.sha256(path.read_bytes()).hexdigest()}, format=1)
    with pytest.raises(ZerosegError, match="colors.json: format 1.* zeroseg-export model.pt --onnx$") as error:
        read_artifact(path)
    assert "\n" not in str(error.value)


def test_network_and_sidecar_disagree(tmp_path):
    path = write_color_model(tmp_path, embedding_dim=768)
    with pytest.raises(ZerosegError, match=f"gives embeddings of {DIM} numbers, but its sidecar says 768"):
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
    image = images(batch=2, height=64, width=96)
    output = open_runner(artifact, threads=1).run(image)
    with torch.no_grad():
        direct = model(torch.from_numpy(image))
    assert output["segment_maps"].shape == (2, 4, 4, 6)
    np.testing.assert_allclose(output["segment_maps"].sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(output["segment_maps"][1, 2, 3, 5], direct.soft_map[1, 3 * 6 + 5, 2], atol=1e-6)
    np.testing.assert_allclose(output["segment_embeddings"], direct.segment_embeddings, atol=1e-6)
    np.testing.assert_allclose(output["image_embedding"], direct.image_embedding, atol=1e-6)


def test_a_model_pt_s_scoring_comes_from_its_weights_and_configuration(checkpoint, tmp_path):
    """Whatever its sidecar says: it may have been written before the share was set."""
    from dataclasses import replace

    from zeroseg.model import load_model, save_checkpoint

    model, document = load_model(checkpoint[0])
    model.config = replace(model.config, score_share=0.25)
    save_checkpoint(tmp_path / "model.pt", model, sidecar=document | {"format": 1, "scoring": {"share": 0.9}})
    assert read_artifact(tmp_path / "model.pt").sidecar.scoring.share == 0.25


def test_torch_runner_without_torch(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "zeroseg.model.checkpoint")  # as where it was never imported
    with pytest.raises(UnavailableError, match=r"back end torch needs torch.*pip install 'zeroseg\[train\]'"):
        read_artifact(checkpoint[0])


def test_artifact_is_immutable(color_model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_sidecar(sidecar(), "x").threshold = 1
