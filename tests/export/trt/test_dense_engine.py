"""Engines and bundles of a network without segments: from an open_clip model's name, windows of one size, scores of
places; the fake TensorRT runs them in ONNX Runtime.
"""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from tests.export.trt.fake_machine import FakeMachine
from tests.export.trt.fake_tensorrt import VERSIONS
from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.runtime.opening import open_runner
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


def invoke(*arguments):
    from zeroseg.export.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def traced(dense_onnx, monkeypatch):
    """The exporter's answer, had once; everything around it runs."""
    from zeroseg.export import to_onnx

    monkeypatch.setattr(to_onnx, "to_onnx", lambda model, document: onnx.load(dense_onnx[0]))


def pack_of(segmenter, rows):
    return LabelPack([f"label {i}" for i in range(len(rows))], rows, segmenter.sidecar.embedding_space)


@pytest.mark.parametrize("version", VERSIONS)
def test_engine_of_a_dense_tower_gives_pytorch_s_masks(
    traced, dense_name, dense_photo, install, unit_rows, tmp_path, version
):
    trt = install(version=version)
    out = tmp_path / "clip.engine"
    done = invoke(dense_name, "--trt", "--photo", dense_photo, "-o", out, "--max-batch", 4)
    assert done.exit_code == 0, done.output
    assert done.output.count("same label on 100.000 % of pixels") == 2
    assert trt.record.profiles == [{"image": [[1, 3, 64, 64], [1, 3, 64, 64], [4, 3, 64, 64]]}]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clip.engine",
        "clip.engine.json",
        "clip.json",
        "clip.onnx",
    ]
    torch_, engine = Segmenter.load(dense_name), Segmenter.load(out)
    assert engine.runner.backend == "tensorrt"
    for count in (2, 9):  # with the background words besides
        pack = pack_of(torch_, unit_rows(count, dim=20))
        got, expected = (segmenter.set_labels(pack).segment(dense_photo) for segmenter in (engine, torch_))
        np.testing.assert_allclose(got.place_scores, expected.place_scores, atol=1e-5)
        assert (got.label_map == expected.label_map).mean() >= 0.999
    with pytest.raises(ZerosegError, match=r"the engine takes \(1, 3, 64, 64\) to \(4, 3, 64, 64\), got \(5, "):
        engine.runner.run(np.zeros((5, 3, 64, 64), np.float32))


def test_bundle_of_a_dense_tower_builds_and_runs_on_its_device(traced, dense_name, dense_photo, install, tmp_path):
    from zeroseg.export.trt.device import main as device

    out = tmp_path / "bundle"
    done = invoke(dense_name, "--bundle", "datacenter", "--photo", dense_photo, "-o", out, "--labels", "cat,dog")
    assert done.exit_code == 0, done.output
    [name] = [path.name for path in out.glob("*.onnx")]
    assert name == "zeroseg-tiny-export.onnx"
    assert "place_embeddings" in (out / "triton/onnx/zeroseg_network/config.pbtxt").read_text()
    assert LabelPack.load(out / "labels.npz").names == ["cat", "dog"] and not (out / "kernels").exists()
    readme = (out / "README.md").read_text()
    assert "For other words, make a labels.npz" in readme and "the server runs it alone" in readme
    assert {path.name for path in (out / "triton/onnx").iterdir()} == {"zeroseg_network"}
    trt = install(FakeMachine("H200", (9, 0)), "11.4.0.106")
    done = CliRunner().invoke(device, [str(out)])
    assert done.exit_code == 0 and "same label on 100.000 % of pixels" in done.output, done.output
    assert trt.record.profiles[0]["image"][2] == [8, 3, 64, 64]
    engine = out / "zeroseg-tiny-export.engine"
    assert json.loads(engine.with_name(f"{engine.name}.json").read_text())["dense"]["window"] == 64
    got = Segmenter.load(engine).set_labels(out / "labels.npz").segment(dense_photo)
    expected = Segmenter.load(dense_name).set_labels(["cat", "dog"]).segment(dense_photo)
    assert (got.label_map == expected.label_map).mean() >= 0.999


def test_a_wrong_engine_is_not_kept(traced, dense_name, dense_photo, install, tmp_path, monkeypatch):
    from zeroseg.export.trt import build

    trt = install()

    def other(trt, content, *arguments):
        graph = onnx.load_from_string(content)
        weights = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [32, 3, 16, 16])
        weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
        return plan(trt, graph.SerializeToString(), *arguments)

    plan = build.build_plan
    monkeypatch.setattr(build, "build_plan", other)
    done = invoke(dense_name, "--trt", "--photo", dense_photo, "-o", tmp_path / "clip.engine")
    assert done.exit_code == 1 and "required; it is not kept" in done.output.splitlines()[-1]
    assert trt.record.deserialized == 1 and not list(tmp_path.glob("*.engine*"))


def test_runners_take_what_the_file_says(dense_onnx):
    """Exported for windows, the file itself takes any batch and any sides that are whole patches."""
    runner = open_runner(read_artifact(dense_onnx[0]), 1)
    output = runner.run(np.ones((3, 3, 32, 80), np.float32))
    assert output["place_embeddings"].shape == (3, 20, 2, 5)
    np.testing.assert_allclose(output["place_embeddings"][0], output["place_embeddings"][2], atol=1e-6)
