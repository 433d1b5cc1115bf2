"""Networks with zeroseg's plugins: the same answers as the plain graph, and what is said where a plugin is missing.

Plugin nodes are computed by fake_nodes.py, which writes the ops' definitions in plain ONNX; the kernels themselves are
compared with their references in test_aot_plugins.py and tests/kernels/test_trt_plugins.py.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

import zeroseg
from tests.export.trt import fake_nodes
from tests.export.trt.conftest import SIDECAR
from tests.export.trt.fake_plugin import make_plugin
from tests.export.trt.fake_tensorrt import VERSIONS
from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.export.trt.plugin_graph import insert_plugins
from zeroseg.runtime.base import OUTPUTS
from zeroseg.runtime.trt_engine import read_engine
from zeroseg.runtime.trt_plugins import LIBRARY, VARIABLE
from zeroseg.runtime.trt_runner import TrtRunner

onnx = pytest.importorskip("onnx")

TINY = Path(zeroseg.__file__).parent / "bundled" / "tiny.onnx"
# q, k and v of one grouping stage from a patch convolution; POOLED is the map that pools
STAGE = """
<ir_version: 8, opset_import: ["" : 18]>
net (float[batch,3,height,width] image)
    => (float[batch,8,rows,columns] segment_maps, float[batch,8,16] segment_embeddings,
        float[batch,16] image_embedding)
{
    patches = Conv<kernel_shape=[16,16], strides=[16,16]>(image, patch_weight)
    flat = Reshape(patches, flat_16)
    tokens = Transpose<perm=[0,2,1]>(flat)
    mean = ReduceMean<keepdims=1>(tokens, one)
    q = Add(mean, group_tokens)
    k = MatMul(tokens, key_weight)
    turned = Transpose<perm=[0,2,1]>(q)
    logits = MatMul(k, turned)
    soft = Softmax<axis=-1>(logits)
    POOLED
    by_group = Transpose<perm=[0,2,1]>(pooled_by)
    total = ReduceSum<keepdims=1>(by_group, two)
    weight = Add(total, eps)
    shares = Div(by_group, weight)
    v = MatMul(tokens, value_weight)
    segments = MatMul(shares, v)
    segment_embeddings = LpNormalization<axis=2, p=2>(segments)
    image_embedding = ReduceMean<keepdims=0>(segment_embeddings, one)
    soft_by_group = Transpose<perm=[0,2,1]>(soft)
    image_shape = Shape<start=2>(patches)
    front = Constant<value_ints=[0,8]>()
    maps_shape = Concat<axis=0>(front, image_shape)
    segment_maps = Reshape(soft_by_group, maps_shape)
}
"""
POOLED = {
    "soft": "pooled_by = Identity(soft)",
    "hard": """winner = ArgMax<axis=-1, keepdims=1>(soft)
    one_hot = Equal(winner, ids)
    pooled_by = Cast<to=1>(one_hot)""",
}


def stage(pooling: str) -> bytes:
    text = STAGE.replace("POOLED", POOLED[pooling]).replace("pooled_by = Identity(soft)", "")
    model = onnx.parser.parse_model(text.replace("(pooled_by)", "(soft)") if pooling == "soft" else text)
    rng = np.random.default_rng(0)
    arrays = {
        "patch_weight": rng.normal(0, 0.05, (16, 3, 16, 16)).astype(np.float32),
        "group_tokens": rng.normal(0, 1, (1, 8, 16)).astype(np.float32),
        "key_weight": rng.normal(0, 0.5, (16, 16)).astype(np.float32),
        "value_weight": rng.normal(0, 0.5, (16, 16)).astype(np.float32),
        "flat_16": np.array([0, 16, -1]),
        "one": np.array([1]),
        "two": np.array([2]),
        "eps": np.array(0.5, np.float32),
        "ids": np.arange(8),
    }
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in arrays.items() if name in used
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def half_tiny() -> bytes:
    from zeroseg.export.half_graph import to_half_graph

    return to_half_graph(onnx.load(TINY)).SerializeToString()


def answers(content: bytes, feed) -> dict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


NODES = {"v3": ["segment_attention"], "aot": ["segment_attention_assign", "segment_attention_pool"]}
# half precision rounds what goes into the plugins, whose sums then have another order
NETWORKS = {
    "soft": (lambda: stage("soft"), 1, 1e-5),
    "hard": (lambda: stage("hard"), 1, 1e-5),
    "tiny": (TINY.read_bytes, 2, 1e-4),
    "tiny-fp16": (half_tiny, 2, 5e-2),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("soft", "v3"), ("soft", "aot"), ("hard", "v3"), ("hard", "aot"), ("tiny", "aot"), ("tiny-fp16", "v3")],
)
def test_network_with_plugins_computes_the_same(name, kind):
    make, stages, atol = NETWORKS[name]
    content = make()
    changed = insert_plugins(content, kind, name)
    model = onnx.load_from_string(changed)
    assert [node.op_type for node in model.graph.node if fake_nodes.is_plugin(node)] == NODES[kind] * stages
    assert len(model.graph.node) < len(onnx.load_from_string(content).graph.node) + 8  # the plain nodes are gone
    image = np.random.default_rng(1).standard_normal((2, 3, 64, 96)).astype(np.float32)
    feed = {"image": image}
    expected, got = answers(content, feed), answers(fake_nodes.with_functions(changed), feed)
    for output in OUTPUTS:
        np.testing.assert_allclose(got[output], expected[output], atol=atol, err_msg=output)


@pytest.mark.parametrize("kind", NODES)
def test_network_without_groups_is_refused(network, kind):
    with pytest.raises(ZerosegError, match=f"net.onnx: --plugins {kind}: has no assignment of tokens to segments"):
        insert_plugins(network.read_bytes(), kind, network.name)


@pytest.fixture
def grouping(tmp_path):
    """Path of a network with a grouping stage, its sidecar beside it."""
    path = tmp_path / "net.onnx"
    path.write_bytes(stage("hard"))
    document = {**SIDECAR, "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}}
    path.with_suffix(".json").write_text(json.dumps(document))
    return path


@pytest.fixture
def library(tmp_path, monkeypatch):
    path = tmp_path / "elsewhere" / LIBRARY
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF")
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def export(*arguments):
    from zeroseg.export.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def build(path, kind, *options):
    return export(path, "--trt", "--plugins", kind, *options)


@pytest.fixture
def no_kernels(monkeypatch):
    """Decoding behind the engine is tested elsewhere."""
    monkeypatch.setitem(sys.modules, "zeroseg.kernels.aot", None)


@pytest.mark.parametrize("version", VERSIONS)
def test_v3_engine_is_built_checked_and_loaded_with_its_library(
    install, grouping, library, version, unit_rows, no_kernels
):
    trt = install(version=version)
    done = build(grouping, "v3")
    assert done.exit_code == 0, done.output
    assert f"net.engine calls {LIBRARY}: a program must load that library before the engine" in done.output
    file = read_engine(grouping.with_suffix(".engine"))
    assert file.manifest.plugins == "v3" and file.manifest.rebuild.endswith("--plugins v3")
    assert set(trt.get_plugin_registry()._libraries) == {str(library)}
    again = install(version=version)
    runner = TrtRunner(Artifact(file.path, file.sidecar, TrtRunner.backend))
    assert set(again.get_plugin_registry()._libraries) == {str(library)}
    assert runner.run(np.zeros((1, 3, 64, 96), np.float32))["segment_maps"].shape == (1, 8, 4, 6)
    runner.close()


def test_library_beside_the_engine_is_found_while_it_is_checked(install, grouping, library, no_kernels, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    library.rename(grouping.with_name(LIBRARY))
    trt = install()
    done = build(grouping, "v3")
    assert done.exit_code == 0, done.output
    assert set(trt.get_plugin_registry()._libraries) == {str(grouping.with_name(LIBRARY))}


def test_missing_library_is_one_line(install, grouping, library, monkeypatch, no_kernels):
    install()
    assert build(grouping, "v3").exit_code == 0
    library.unlink()
    file = read_engine(grouping.with_suffix(".engine"))
    with pytest.raises(UnavailableError) as caught:
        TrtRunner(Artifact(file.path, file.sidecar, TrtRunner.backend))
    assert str(caught.value).startswith(f"{file.path}: the engine calls zeroseg's plugins: {LIBRARY} was not found")
    monkeypatch.delenv(VARIABLE)
    done = build(grouping, "v3")
    assert done.exit_code == 1 and "Traceback" not in done.output and done.output.count("Error: ") == 1
    assert f"--plugins v3: {LIBRARY} was not found ({grouping.parent / LIBRARY}, " in done.output
    library.write_text("not a library")
    monkeypatch.setenv(VARIABLE, str(library))
    assert f"{library}: TensorRT 10.3.0 cannot load it; was it built with" in build(grouping, "v3").output


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_aot_engine_needs_nothing_to_be_loaded(install, grouping, version, monkeypatch, no_kernels):
    pytest.importorskip("triton")
    trt = install(version=version)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", make_plugin(version))
    monkeypatch.setattr("zeroseg.export.trt.aot_plugins._compiler", lambda sm: None)  # nobody asks for the kernels here
    done = build(grouping, "aot")
    assert done.exit_code == 0, done.output
    bit = trt.NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS.value
    assert trt.record.network_flags & 1 << bit
    file = read_engine(grouping.with_suffix(".engine"))
    assert file.manifest.plugins == "aot" and not trt.get_plugin_registry()._libraries
    monkeypatch.delitem(sys.modules, "tensorrt.plugin")
    install(version=version)
    TrtRunner(Artifact(file.path, file.sidecar, TrtRunner.backend)).close()


def test_aot_on_jetpacks_tensorrt_says_what_would_run(install, grouping, monkeypatch):
    install(version="10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", None)
    done = build(grouping, "aot")
    assert done.exit_code == 1 and "Traceback" not in done.output and done.output.count("Error: ") == 1
    assert "10.3.0 has no tensorrt.plugin" in done.output and "--plugins v3 works from 10.3 on" in done.output


def test_bundles_hold_the_plain_graph(grouping, tmp_path):
    done = export(grouping, "--bundle", "jetson-orin", "--plugins", "v3", "-o", tmp_path / "bundle")
    assert done.exit_code == 1 and "--plugins v3: only together with --trt" in done.output


def test_manifest_of_before_is_still_read_and_a_wrong_one_is_named(install, grouping, no_kernels):
    install()
    assert build(grouping, "none").exit_code == 0
    source = grouping.with_name("net.engine.json")
    document = json.loads(source.read_text())
    del document["engine"]["plugins"]
    source.write_text(json.dumps(document))
    assert read_engine(grouping.with_suffix(".engine")).manifest.plugins == "none"
    document["engine"]["plugins"] = "v4"
    source.write_text(json.dumps(document))
    with pytest.raises(ZerosegError, match="plugins: expected one of none, aot, v3, got 'v4'"):
        read_engine(grouping.with_suffix(".engine"))
