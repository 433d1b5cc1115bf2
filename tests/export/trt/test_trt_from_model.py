"""zeroseg-export --trt from a model.pt: through the export's own gate first, in the precision asked for."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.export.trt.fake_nodes import is_plugin
from zeroseg.errors import ZerosegError
from zeroseg.export.parity import draw_scene
from zeroseg.export.trt.plugin_graph import insert_plugins

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def model_pt(make_model, sidecar, tmp_path_factory):
    from zeroseg.model import save_checkpoint

    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(path, make_model("one-stage"), sidecar=sidecar)
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "scene.png"
    Image.fromarray(draw_scene(np.random.default_rng(0), (72, 96))).save(path)
    return path


def invoke(*arguments):
    from zeroseg.export.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_engine_of_a_model_comes_from_its_checked_export(model_pt, photo, install, tmp_path):
    """Two tables: the export against PyTorch, the engine against PyTorch. Precision is in the ONNX, in no flag."""
    trt = install(version="11.4.0.106")
    done = invoke(model_pt, "--trt", "--precision", "fp16", "--photo", photo, "-o", tmp_path / "x.engine")
    assert done.exit_code == 0, done.output
    assert done.output.count("same label on") == 2
    manifest = json.loads((tmp_path / "x.engine.json").read_text())["engine"]
    assert (manifest["precision"], manifest["onnx_file"]) == ("fp16", "x.onnx")
    assert trt.record.flags == set()
    weights = onnx.load(tmp_path / "x.onnx").graph.initializer
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in weights)
    changed = onnx.load_from_string(insert_plugins((tmp_path / "x.onnx").read_bytes(), "aot", "x.onnx"))
    assert [node.op_type for node in changed.graph.node if is_plugin(node)] == [
        "segment_attention_assign",
        "segment_attention_pool",
    ]


def test_export_that_fails_its_gate_never_reaches_tensorrt(model_pt, photo, install, tmp_path, monkeypatch):
    """What the gate itself refuses is tested in tests/export."""
    from zeroseg.export import run

    def refuse(model, out, options, report, gate):
        raise ZerosegError(f"{out}: not written, the masks differ")

    trt = install()
    monkeypatch.setattr(run, "export_file", refuse)
    done = invoke(model_pt, "--trt", "--photo", photo, "-o", tmp_path / "x.engine")
    assert done.exit_code == 1 and done.output.endswith("x.onnx: not written, the masks differ\n")
    assert trt.record.network_flags is None and not list(tmp_path.iterdir())
