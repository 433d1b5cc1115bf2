"""Weights as 8-bit numbers in blocks: the graph computes with the rounded weights, and only large ones are rounded."""

import copy

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from zeroseg.export.block_weights import fragile_weights, store_weights_in_blocks  # noqa: E402

WIDTH, ROWS = 400, 64  # 100 is the largest divisor of a row up to 192
TOLERANCE = 2e-5  # sums of 400 float32 products in another order


def rounded(weight):
    """The weight as it is stored, one block after the other, in float64."""
    out = np.zeros(weight.shape)
    for r in range(len(weight)):
        for start in range(0, weight.shape[1], 100):
            block = weight[r, start : start + 100].astype(np.float64)
            scale = np.float64(np.float16(np.float32(np.abs(block).max()) / np.float32(127))) or 1.0
            out[r, start : start + 100] = np.clip(np.round(block / scale), -127, 127) * scale
    return out


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_graph_computes_with_rounded_weights(kind):
    import onnxruntime

    rng = np.random.default_rng(0)
    large, small = rng.normal(size=(ROWS, WIDTH)).astype(kind), rng.normal(size=(ROWS, 30)).astype(kind)
    large[3, 100:200] = 0
    nodes, names = [], {"large": large, "small": small}
    for name in names:
        nodes.append(helper.make_node("Cast", [name], [f"{name}.float"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("MatMul", ["x", "large.float"], ["wide"]))
    nodes.append(helper.make_node("MatMul", ["x", "small.float"], ["narrow"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, ROWS])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, None]) for name in ("wide", "narrow")]
    stored = [numpy_helper.from_array(array, name) for name, array in names.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    before = model.ByteSize()
    store_weights_in_blocks(model)
    onnx.checker.check_model(model, full_check=True)
    assert model.ByteSize() < before - large.nbytes + 1.2 * large.size
    x = rng.normal(size=(2, ROWS)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wide, narrow = session.run(None, {"x": x})
    kept = rounded(large).astype(kind).astype(np.float64)
    assert np.abs(wide - x @ kept).max() < TOLERANCE * np.abs(x @ kept).max()
    assert np.abs(kept - large).max() > 1e-3  # it is rounded
    np.testing.assert_allclose(narrow, x @ small.astype(np.float32), rtol=1e-4, atol=1e-4)
    assert not rounded(large)[3, 100:200].any()


def test_weights_that_matter_most_stay_whole():
    """Of three weights added up, the product of one is a thousand times as large: its rounding shows most."""
    rng = np.random.default_rng(1)
    names = ("faint", "loud", "fainter")
    weights = {name: rng.normal(size=(ROWS, WIDTH)).astype(np.float16) for name in names}
    nodes = [helper.make_node("Cast", [name], [f"{name}.float"], to=TensorProto.FLOAT) for name in names]
    nodes += [helper.make_node("MatMul", [f"x.{name}", f"{name}.float"], [f"{name}.y"]) for name in names]
    nodes.append(helper.make_node("Sum", [f"{name}.y" for name in names], ["y"]))
    inputs = [helper.make_tensor_value_info(f"x.{name}", TensorProto.FLOAT, [2, ROWS]) for name in names]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, WIDTH])]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    scales = {"faint": 1e-2, "loud": 1, "fainter": 1e-4}
    feed = {f"x.{name}": (scales[name] * rng.normal(size=(2, ROWS))).astype(np.float32) for name in names}
    saved = ROWS * WIDTH - 2 * ROWS * WIDTH // 100
    assert fragile_weights(model, [feed], "y", saved - 1) == frozenset()
    assert fragile_weights(model, [feed], "y", saved) == {"loud"}
    assert fragile_weights(model, [feed], "y", 2 * saved) == {"loud", "faint"}
    whole = store_weights_in_blocks(copy.deepcopy(model), frozenset({"loud"}))
    kinds = {tensor.name: tensor.data_type for tensor in whole.graph.initializer}
    assert kinds["loud"] == TensorProto.FLOAT16 and kinds["faint/numbers"] == TensorProto.INT8
