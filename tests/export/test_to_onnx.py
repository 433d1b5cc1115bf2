"""The exported graph against PyTorch: any batch and size on one file; what the file says about itself."""

import copy
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.runtime.base import OUTPUTS
from zeroseg.runtime.opening import open_runner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from zeroseg.export.half_weights import store_weights_as_half  # noqa: E402
from zeroseg.export.onnx_file import write_onnx  # noqa: E402
from zeroseg.export.to_onnx import AXES, METADATA_KEY, to_onnx  # noqa: E402
from zeroseg.export.wrapper import ExportModel  # noqa: E402
from zeroseg.model import load_model  # noqa: E402

TOLERANCE = 2e-4  # float32, two implementations of some forty layers


@pytest.fixture(scope="module")
def bundled(bundled_pt):
    """(model, its description)"""
    return load_model(bundled_pt)[0], {**read_artifact(bundled_pt).sidecar.to_dict(), "files": {}}


@pytest.fixture(scope="module", params=["bundled", "vit"])
def exported(request, make_model, sidecar, tmp_path_factory):
    """(model, ONNX path, its description)"""
    if request.param == "bundled":
        model, described = request.getfixturevalue("bundled")
    else:
        model, described = make_model(request.param), sidecar
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(to_onnx(model, described), path, described)
    return model, path, described


def images(batch, sides, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, 3, *sides)).astype(np.float32)


def torch_outputs(model, inputs):
    with torch.no_grad():
        values = ExportModel(model)(torch.from_numpy(inputs))
    return dict(zip(OUTPUTS, (value.numpy() for value in values), strict=True))


def test_one_file_takes_any_batch_and_sides(exported):
    model, path, _ = exported
    runner = open_runner(read_artifact(path), threads=1)
    for batch, sides in ((1, (64, 96)), (3, (128, 32)), (2, (32, 32))):
        inputs = images(batch, sides)
        got, expected = runner.run(inputs), torch_outputs(model, inputs)
        assert got["segment_maps"].shape == (batch, 8, sides[0] // 16, sides[1] // 16)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, atol=TOLERANCE, rtol=1e-3, err_msg=name)


def test_graph_is_plain(exported):
    graph = onnx.load(exported[1]).graph
    operators = Counter(node.op_type for node in graph.node)
    blocks = 4  # one of the encoder, three of the head
    assert operators["LayerNormalization"] >= 2 * blocks
    assert operators["Softmax"] >= blocks + 4  # self-attention, and cross-attention and assignment of two stages
    assert not set(operators) & {"Attention", "If", "Loop", "Scan", "RandomUniformLike", "RandomNormalLike"}
    assert {node.domain for node in graph.node} == {""}


def test_axes_are_named(exported):
    graph = onnx.load(exported[1]).graph
    for value in [*graph.input, *graph.output]:
        names = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert [n if isinstance(n, str) else None for n in names] == list(AXES[value.name]), value.name


def test_file_describes_itself(exported):
    _, path, sidecar = exported
    described = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert json.loads(described[METADATA_KEY]) == {k: v for k, v in sidecar.items() if k != "files"}
    document = json.loads(path.with_suffix(".json").read_text())
    assert {**document, "files": {}} == sidecar and list(document["files"]) == ["model.onnx"]


def test_file_tells_nothing_about_the_machine(exported):
    content = exported[1].read_bytes()
    assert str(Path(__file__).parent.parent).encode() not in content
    assert b"stack_trace" not in content and b".py" not in content


def test_half_weights_halve_the_file_and_compute_in_float32(make_model, sidecar, tmp_path):
    model = make_model("vit")
    full = to_onnx(model, sidecar)
    size = full.ByteSize()
    half = store_weights_as_half(full)
    assert half.ByteSize() < 0.56 * size
    path = tmp_path / "model.onnx"
    write_onnx(half, path, sidecar)
    inputs = images(1, (64, 96))
    got = open_runner(read_artifact(path), threads=1).run(inputs)
    expected = torch_outputs(model, inputs)
    for name, value in expected.items():
        assert got[name].dtype == np.float32
        np.testing.assert_allclose(got[name], value, atol=0.05, err_msg=name)
    types = {i.data_type for i in onnx.load(path).graph.initializer if np.prod(i.dims) > 256 and len(i.dims) > 1}
    assert onnx.TensorProto.FLOAT not in types and onnx.TensorProto.FLOAT16 in types


def test_weights_that_are_half_lose_nothing_though_norms_are_folded_in(make_model, sidecar, tmp_path):
    """Rounding the products of convolutions and norms moved the bundled model's scores by 0.004."""
    model = make_model("hybrid")  # its weights are half
    own = {name: value.numpy() for name, value in model.state_dict().items()}
    full = to_onnx(model, sidecar)
    inputs, outputs = images(1, (64, 96)), []
    for graph in (full, store_weights_as_half(copy.deepcopy(full), own)):
        write_onnx(graph, tmp_path / "model.onnx", sidecar)
        outputs.append(open_runner(read_artifact(tmp_path / "model.onnx"), threads=1).run(inputs))
    for name, value in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], value, atol=1e-5, err_msg=name)
    stored = {onnx.numpy_helper.to_array(tensor).tobytes() for tensor in graph.graph.initializer}
    matrices = {name: value.astype(np.float16) for name, value in own.items() if value.ndim == 2 and value.size >= 256}
    missing = [name for name, value in matrices.items() if value.tobytes() not in stored]
    assert len(matrices) > 9
    assert missing == ["stem.classifier.weight"], "only what the graph does not use; the rest as the checkpoint has it"


def test_weights_that_are_half_halve_the_bundled_file(bundled):
    model, sidecar = bundled
    own = {name: value.numpy() for name, value in model.state_dict().items()}
    full = to_onnx(model, sidecar)
    assert store_weights_as_half(copy.deepcopy(full), own).ByteSize() < 0.56 * full.ByteSize()


def test_half_weights_refuse_what_does_not_fit():
    big = onnx.numpy_helper.from_array(np.full((300,), 1e6, np.float32), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [big])
    with pytest.raises(ZerosegError, match="weight w does not fit float16"):
        store_weights_as_half(onnx.helper.make_model(graph))
