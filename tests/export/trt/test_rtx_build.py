"""NVIDIA's own parser and builder on the graphs that we export: TensorRT for RTX, which needs no GPU to build.

An engine may be for several compute capabilities at once and takes no longer to build, so one build a graph is enough.
What the engines compute is not shown here: that takes an RTX GPU.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zeroseg.artifact import read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.export.trt.builder import BuildOptions, build_plan

onnx = pytest.importorskip("onnx")

AMPERE_ON = ("sm80", "sm86", "sm89", "sm120")


def build(rtx, content, sidecar, capabilities=AMPERE_ON, **options):
    return build_plan(
        rtx,
        content if isinstance(content, bytes) else content.SerializeToString(),
        "net.onnx",
        sidecar,
        BuildOptions(capabilities=capabilities, **options),
        show_progress=False,
        keep_layers=True,
    )


def nodes_in(plan):
    return {node for layer in plan.layers for node in layer.nodes}


def weight_count(model):
    return sum(onnx.numpy_helper.to_array(tensor).size for tensor in model.graph.initializer)


@pytest.fixture(scope="module")
def bundled():
    """(sidecar, graph)"""
    artifact = read_artifact()
    return artifact.sidecar, onnx.load(artifact.path)


@pytest.fixture(scope="module")
def fp32(rtx, bundled):
    return build(rtx, bundled[1], bundled[0])


def test_bundled_model_in_fp32(bundled, fp32):
    sidecar, model = bundled
    spec = sidecar.input
    assert fp32.profile["image"][0] == [1, 3, spec.multiple, spec.multiple]
    assert fp32.profile["image"][2] == [1, 3, spec.max_long_side, spec.max_long_side]
    # TensorRT keeps some weights twice, in two layouts
    assert 1 <= fp32.weights_bytes / (4 * weight_count(model)) < 1.4
    assert fp32.content.nbytes > fp32.weights_bytes and fp32.activation_bytes > 1e6
    assert {layer.precision for layer in fp32.layers} <= {"", "Float"}
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert convolutions <= nodes_in(fp32)


@pytest.fixture(scope="module")
def half(bundled, tmp_path_factory):
    """The bundled model's graph in fp16."""
    from zeroseg.export.divergence import name_nodes
    from zeroseg.export.half_graph import to_half_graph
    from zeroseg.export.int8_graph import fold

    folded = fold(bundled[1], tmp_path_factory.mktemp("folded"))  # no casts of weights that are stored as float16
    return to_half_graph(name_nodes(folded))


def test_bundled_model_in_fp16(rtx, bundled, fp32, half):
    plan = build(rtx, half, bundled[0])
    assert 0.45 < plan.weights_bytes / fp32.weights_bytes < 0.55
    assert plan.activation_bytes < fp32.activation_bytes / 2
    heavy = [layer for layer in plan.layers if layer.kind in ("gemm", "correlation")]
    assert len(heavy) > 50 and {layer.precision for layer in heavy} == {"Half"}


def test_bundled_model_in_fp16_for_turing(rtx, bundled, half):
    """On its own: an engine that is for Turing too has no fused attention, and needs several times the memory."""
    plan = build(rtx, half, bundled[0], ("sm75",))
    assert plan.weights_bytes and not {layer.precision for layer in plan.layers if layer.kind == "gemm"} - {"Half"}


def test_float32_for_turing_is_what_the_library_refuses(rtx, bundled):
    """Why --rtx sm75 wants --precision fp16: should a later library take it, this says so."""
    with pytest.raises(ZerosegError, match=r"cannot build an engine: .*Turing \(SM75\): FP32 GEMM is not supported"):
        build(rtx, bundled[1], bundled[0], ("sm75",))


def test_bundled_model_with_masks_in_the_graph(rtx, bundled):
    from zeroseg.export.masks_graph import masks_graph

    sidecar, model = bundled
    plan = build(rtx, masks_graph(model, sidecar), sidecar)
    assert plan.profile["label_embeddings"] == [[1, 512], [20, 512], [1200, 512]]
    assert any(name.startswith("masks/") for name in nodes_in(plan))


def test_base_preset_in_small(rtx, make_model, sidecar):
    """A ViT instead of convolutions in front: the preset's graph, narrower and with random weights."""
    pytest.importorskip("onnxscript")
    from zeroseg.export.to_onnx import to_onnx
    from zeroseg.sidecar import parse_sidecar

    model = to_onnx(make_model("vit"), sidecar)
    plan = build(rtx, model, parse_sidecar(sidecar, "the test's"))
    assert plan.weights_bytes > 4 * weight_count(model)
    assert "Half" not in {tensor.dtype for layer in plan.layers for tensor in (*layer.inputs, *layer.outputs)}


def test_dense_tower(rtx, dense_onnx):
    sidecar = read_artifact(dense_onnx[0]).sidecar
    plan = build(rtx, Path(dense_onnx[0]).read_bytes(), sidecar, max_batch=4)
    window = sidecar.dense.window
    assert plan.profile == {"image": [[1, 3, window, window], [1, 3, window, window], [4, 3, window, window]]}


V3 = """
import sys
from pathlib import Path
from zeroseg.export.trt.builder import BuildOptions
from zeroseg.export.trt.rtx import build_rtx
build_rtx(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions(plugins="v3", capabilities=("sm89",)),
          layers=Path(sys.argv[3]), show_progress=False)
"""


def test_v3_plugins(rtx, tmp_path, monkeypatch):
    """Where the library was built against TensorRT's headers, it registers and its nodes are built into an engine.

    In a process of its own: for a graph with plugins the library opens itself by its bare name, or aborts.
    """
    from zeroseg.runtime.rtx_library import require_by_name
    from zeroseg.runtime.trt_plugins import find_library

    try:
        library = find_library()
    except UnavailableError as error:
        pytest.skip(str(error))
    with pytest.raises(UnavailableError, match=r"run the command again with LD_LIBRARY_PATH=.*links"):
        require_by_name(tmp_path / "links")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path / "links"), "ZEROSEG_TRT_PLUGINS": str(library)}
    command = [sys.executable, "-c", V3, read_artifact().path, tmp_path / "v3.rtx", tmp_path / "layers.tsv"]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = [line.split("\t")[1] for line in (tmp_path / "layers.tsv").read_text().splitlines()]
    assert kinds.count("custom_layer") >= 2  # the two stages' segment_attention


def test_without_the_link_it_is_one_line(rtx, network, tmp_path, monkeypatch):
    """Not the library's abort."""
    from zeroseg.export.trt.rtx import build_rtx

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(
        UnavailableError, match="searches libtensorrt_rtx.so on the library path; run the command again"
    ):
        build_rtx(network, tmp_path / "x.rtx", BuildOptions(plugins="v3"))
    assert (tmp_path / "cache/zeroseg/rtx" / rtx.__version__ / "libtensorrt_rtx.so").is_symlink()
