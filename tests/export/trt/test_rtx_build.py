"""NVIDIA's own parser and builder on the graphs that we export: TensorRT for RTX, which needs no GPU to build.

An engine may be for several compute capabilities at once and takes no longer to build, so one build a graph is enough.
What the engines compute is not shown here: that takes an RTX GPU.
"""

import pytest

from zeroseg.artifact import read_artifact
from zeroseg.export.trt.builder import BuildOptions, build_plan

onnx = pytest.importorskip("onnx")

AMPERE_ON = ("sm80", "sm86", "sm89", "sm120")
ALL = ("sm75", *AMPERE_ON)


def build(rtx, model, sidecar, capabilities):
    return build_plan(
        rtx,
        model.SerializeToString(),
        "net.onnx",
        sidecar,
        BuildOptions(capabilities=capabilities),
        show_progress=False,
        keep_layers=True,
    )


def nodes_in(plan):
    return {node for layer in plan.layers for node in layer.nodes}


def weight_count(model):
    return sum(onnx.numpy_helper.to_array(tensor).size for tensor in model.graph.initializer)


def test_bundled_model_in_fp32(rtx):
    artifact = read_artifact()
    model = onnx.load(artifact.path)
    plan = build(rtx, model, artifact.sidecar, AMPERE_ON)
    spec = artifact.sidecar.input
    assert plan.profile["image"][0] == [1, 3, spec.multiple, spec.multiple]
    assert plan.profile["image"][2] == [1, 3, spec.max_long_side, spec.max_long_side]
    # TensorRT keeps some weights twice, in two layouts
    assert 1 <= plan.weights_bytes / (4 * weight_count(model)) < 1.4
    assert plan.content.nbytes > plan.weights_bytes and plan.activation_bytes > 1e6
    assert {layer.precision for layer in plan.layers} <= {"", "Float"}
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert convolutions <= nodes_in(plan)


def test_bundled_model_in_fp16_for_turing_too(rtx):
    from zeroseg.export.half_graph import to_half_graph

    artifact = read_artifact()
    model = onnx.load(artifact.path)
    plan = build(rtx, to_half_graph(model), artifact.sidecar, ALL)
    assert 1 <= plan.weights_bytes / (2 * weight_count(model)) < 1.4
    heavy = [layer for layer in plan.layers if layer.kind in ("gemm", "correlation")]
    assert len(heavy) > 50 and {layer.precision for layer in heavy} == {"Half"}
