"""Rewriting a graph in float16, the search for islands, the finished label map, and naming where two graphs part.

All on graphs made by hand, so that the right answer is known.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.color_model import sidecar as color_sidecar
from tests.color_model import vectors, write_color_model
from zeroseg.errors import ZerosegError
from zeroseg.export.islands import find_islands
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.segment.scores import segment_scores
from zeroseg.sidecar import parse_sidecar

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from zeroseg.export import variants  # noqa: E402
from zeroseg.export.divergence import first_divergence, node_values  # noqa: E402
from zeroseg.export.half_graph import half_nodes, rounded_graph, tensor_types, to_half_graph  # noqa: E402
from zeroseg.export.masks_graph import masks_graph  # noqa: E402

HALF_EPS = 2**-11


def session(model):
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def chain(scale=1.0, floor=1e-12, seed=0):
    """x (N, 8) -> linear -> square -> sum over the row, never below floor -> x / sum -> linear -> y."""
    rng = np.random.default_rng(seed)
    weights = {"w1": rng.standard_normal((8, 8)), "w2": rng.standard_normal((8, 8)), "floor": np.array(floor),
               "scale": np.array(scale)}  # fmt: skip
    nodes = [helper.make_node(op, inputs, [out], name=f"node_{out}", **attributes) for op, inputs, out, attributes in (
        ("MatMul", ["x", "w1"], "first", {}), ("Mul", ["first", "scale"], "scaled", {}),
        ("Mul", ["scaled", "scaled"], "square", {}), ("ReduceSum", ["square", "axis"], "sum", {}),
        ("Clip", ["sum", "floor"], "clipped", {}), ("Sqrt", ["clipped"], "norm", {}),
        ("Div", ["scaled", "norm"], "unit", {}), ("MatMul", ["unit", "w2"], "y", {}))]  # fmt: skip
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1]), "axis"))
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8])  # noqa: E731
    graph = helper.make_graph(nodes, "chain", [value("x")], [value("y")], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


X = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)


def run(model):
    return session(model).run(None, {"x": X})[0]


def test_half_graph_computes_in_half_and_keeps_its_face():
    model = chain()
    half = to_half_graph(model)
    onnx.checker.check_model(half, full_check=True)
    y, expected = run(half), run(model)
    assert y.dtype == np.float32
    assert 0 < np.abs(y - expected).max() < 40 * HALF_EPS * np.abs(expected).max()
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert types["w1.half"] == types["w2.half"] == TensorProto.FLOAT16 and "w1" not in types


def test_half_graph_has_no_cast_but_at_its_ends_and_islands():
    model = chain(floor=1e-3)  # which float16 can hold
    casts = [node.input[0] for node in to_half_graph(model).graph.node if node.op_type == "Cast"]
    assert casts == ["x", "y.inner"]
    kept = [node.input[0] for node in to_half_graph(model, {"node_norm"}).graph.node if node.op_type == "Cast"]
    assert kept == ["x", "clipped", "norm", "y.inner"]


def test_what_half_cannot_hold_stays_float():
    assert "node_clipped" not in half_nodes(chain(floor=1e-12))  # 0 in float16: a later division by zero
    assert "node_scaled" not in half_nodes(chain(scale=1e6))
    assert set(half_nodes(chain(floor=1e-3))) == {node.name for node in chain().graph.node}


def test_keeping_everything_changes_nothing():
    model = chain()
    assert np.array_equal(run(to_half_graph(model, {node.name for node in model.graph.node})), run(model))


def test_operators_without_half_stay_float():
    """ONNX's Range has no float16 form."""
    ends = [numpy_helper.from_array(np.float32(v), k) for k, v in (("zero", 0), ("one", 1), ("eight", 8))]
    nodes = [
        helper.make_node("Range", ["zero", "eight", "one"], ["places"], name="range"),
        helper.make_node("Add", ["x", "places"], ["y"], name="add"),
    ]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8])  # noqa: E731
    model = helper.make_model(
        helper.make_graph(nodes, "g", [value("x")], [value("y")], ends),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    half = to_half_graph(model)
    onnx.checker.check_model(half, full_check=True)
    np.testing.assert_allclose(run(half), X + np.arange(8), atol=8 * HALF_EPS)
    assert half_nodes(model) == ["add"]


def test_what_follows_from_shapes_stays_float():
    """TensorRT computes it on the CPU, which has no float16 there: it refused the graph whose width was cast to it."""
    wide = numpy_helper.from_array(np.array([1]), "axis")
    factor = numpy_helper.from_array(np.full((1, 8), 0.5, np.float32), "factor")
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "axis"], ["width"], name="gather"),
        helper.make_node("Cast", ["width"], ["real"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["real"], ["root"], name="sqrt"),
        helper.make_node("Expand", ["factor", "shape"], ["factors"], name="expand"),  # its values are a weight's
        helper.make_node("Mul", ["x", "factors"], ["scaled"], name="mul"),
        helper.make_node("Div", ["scaled", "root"], ["y"], name="div"),
    ]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8])  # noqa: E731
    model = helper.make_model(
        helper.make_graph(nodes, "g", [value("x")], [value("y")], [wide, factor]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    assert half_nodes(model) == ["expand", "mul", "div"]
    half = to_half_graph(model)
    onnx.checker.check_model(half, full_check=True)
    np.testing.assert_allclose(run(half), X * 0.5 / np.sqrt(8), atol=8 * HALF_EPS)


def test_normalisations_and_softmax_stay_float():
    one = numpy_helper.from_array(np.ones(8, np.float32), "one")
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["scaled"], name="mul"),
        helper.make_node("LayerNormalization", ["scaled", "one"], ["normal"], name="norm", axis=-1),
        helper.make_node("Mul", ["normal", "one"], ["logits"], name="again"),
        helper.make_node("Softmax", ["logits"], ["y"], name="softmax", axis=-1),
    ]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8])  # noqa: E731
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert half_nodes(model) == ["mul", "again"]
    half = to_half_graph(model)
    onnx.checker.check_model(half, full_check=True)
    types = {name: kind for name, kind in tensor_types(half).items()}
    inputs = {node.name: types[node.input[0]] for node in half.graph.node}
    assert inputs["norm"] == inputs["softmax"] == TensorProto.FLOAT and inputs["again"] == TensorProto.FLOAT16
    np.testing.assert_allclose(run(half), run(model), atol=8 * HALF_EPS)


def overflow_damage(model):
    """How wrong the half graph is with `kept` in float32."""
    expected = run(model)

    def damage(kept):
        error = np.abs(run(rounded_graph(model, kept)) - expected).max()
        return (float(np.nan_to_num(error, nan=np.inf)),)

    return damage


def test_islands_are_the_nodes_that_overflow():
    model = chain(scale=300.0)  # squares near 300^2 * 8 pass float16's 65504
    nodes = {node.name: node.op_type for node in model.graph.node if node.name in set(half_nodes(model))}
    damage = overflow_damage(model)
    limit = 0.05
    assert not damage(frozenset())[0] < limit
    lines = []
    kept = find_islands(nodes, damage, lambda kept: damage(kept)[0] < limit, lines.append)
    assert damage(kept)[0] < limit and {"node_square", "node_sum"} <= kept
    assert "node_first" not in kept and lines


def test_rounded_graph_has_the_values_of_the_half_graph():
    model = chain()
    first = node_values(model, {"x": X})["first"]
    weights = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w1"))
    expected = (X @ weights.astype(np.float16).astype(np.float32)).astype(np.float16)
    got = node_values(rounded_graph(model), {"x": X})["first"]
    np.testing.assert_allclose(got, expected, rtol=2 * HALF_EPS)
    assert np.array_equal(got, got.astype(np.float16)) and not np.array_equal(got, first)
    assert np.array_equal(run(rounded_graph(model, {node.name for node in model.graph.node})), run(model))


def test_bisection_finds_the_one_node():
    nodes = {f"n{i}": "Add" for i in range(100)}
    calls = []

    def damage(kept):
        calls.append(kept)
        return (0.0 if "n37" in kept else 1.0,)

    assert find_islands(nodes, damage, lambda kept: damage(kept)[0] < 0.5) == {"n37"}
    assert len(calls) <= 2 + 2 * 7


def test_islands_give_up_in_one_line():
    with pytest.raises(ZerosegError, match="the masks still differ; use --precision fp32"):
        find_islands({f"n{i}": f"Op{i}" for i in range(50)}, lambda kept: (1.0,), lambda kept: False)


def test_the_search_ends_where_all_cases_pass(tmp_path, monkeypatch):
    """A few cases agree at once; all of them only with one node in float32, which the few tell by their cosine."""
    gate = SimpleNamespace(
        quick=lambda kept: (0.0, float("node_square" not in kept)), agrees=lambda kept: "node_square" in kept
    )
    monkeypatch.setattr(variants, "rounded_graph", lambda graph, kept: kept)
    monkeypatch.setattr(variants.Workshop, "_open", lambda self, kept: kept)
    workshop = variants.Workshop(chain(floor=1e-3), {}, gate, tmp_path)
    _, note = workshop._fp16()
    assert workshop.kept == {"node_square"} and note.startswith("1 of ")


@pytest.mark.parametrize(("weight", "node"), [("w1", "node_first"), ("scale", "node_scaled"), ("w2", "node_y")])
def test_corrupted_weight_names_its_node(weight, node):
    good, bad = chain(), chain()
    tensor = next(t for t in bad.graph.initializer if t.name == weight)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = values.flat[0] * -3 + 1
    tensor.CopyFrom(numpy_helper.from_array(values, weight))
    found = first_divergence(good, node_values(good, {"x": X}), node_values(bad, {"x": X}), 1e-2)
    assert found.node == node and found.error > 1e-2 and found.inputs_error == 0
    assert str(found).startswith(f"first node that diverges: {node} (")


def test_values_that_are_not_finite_diverge():
    good, bad = chain(), chain()
    tensor = next(t for t in bad.graph.initializer if t.name == "scale")
    tensor.CopyFrom(numpy_helper.from_array(np.float32(np.nan), "scale"))
    found = first_divergence(good, node_values(good, {"x": X}), node_values(bad, {"x": X}), 1e-2)
    assert found.node == "node_scaled" and found.error == np.inf


def test_equal_graphs_do_not_diverge():
    values = node_values(chain(), {"x": X})
    assert first_divergence(chain(), values, values, 1e-2) is None
    assert set(values) == {"x", "first", "scaled", "square", "sum", "clipped", "norm", "unit", "y"}


def test_growth_names_the_node_when_none_is_beyond():
    good = chain()
    values = node_values(good, {"x": X})
    found = first_divergence(good, values, values | {"unit": values["unit"] * 1.001}, 1e-2)
    assert found.node == "node_unit" and found.error == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("size", [(64, 96), (100, 37), (480, 640)])
@pytest.mark.parametrize("threshold", [None, -1.0, 0.5, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_masks_in_the_graph_are_those_of_the_host(tmp_path, share, size, threshold):
    model = onnx.load(write_color_model(tmp_path))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 18))
    for node in list(model.graph.node):  # opset 18 gives ReduceMean its axes as an input
        if node.op_type == "ReduceMean":
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("keepdims", 0))
            node.input.append("mean_axes")
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "mean_axes"))
    plain = model
    sidecar = parse_sidecar(color_sidecar(scoring={"centre": None, "share": share}), "colors")
    model = masks_graph(model, sidecar)
    onnx.checker.check_model(model, full_check=True)
    image = np.random.default_rng(2).uniform(-1, 1, (2, 3, 64, 96)).astype(np.float32)
    labels = vectors("blue", "red", "green")
    feed = {"image": image, "label_embeddings": labels}
    floor = {} if threshold is None else {"threshold": np.array(threshold, np.float32)}
    given = feed | {"size": np.array(size)} | floor
    opened, network = session(model), session(plain)
    got, scores = opened.run(["label_map", "segment_scores"], given)
    maps, embeddings = network.run(["segment_maps", "segment_embeddings"], {"image": image})
    assert got.dtype == np.int32 and got.shape == (2, *size)
    floor = 0.5 if threshold is None else threshold
    for b in range(2):
        np.testing.assert_allclose(scores[b], segment_scores(embeddings[b], labels, sidecar.scoring), atol=1e-6)
        table = np.where(scores[b].max(1) >= floor, scores[b].argmax(1), -1)
        expected = mask_decode(maps[b], table, size)[0]
        assert (got[b] == expected).mean() > 0.9995  # ties of two segments may round either way
    assert set(np.unique(got)) == ({-1, 0, 1, 2} if floor < 2 else {-1}) or floor == -1.0
    if threshold is None:  # without a size the map has the image's
        assert opened.run(["label_map"], feed)[0].shape == (2, 64, 96)
