"""int8 graphs of a small network made by hand: what each kind of runtime takes, and what is computed."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, numpy_helper  # noqa: E402

from zeroseg.export.int8_graph import fold, quantisable, to_int8_graph, weight_bits  # noqa: E402

NETWORK = """
<ir_version: 8, opset_import: ["" : 18]>
net (float[batch,3,8,8] image) => (float[batch,4] out)
{
    places = Conv<kernel_shape=[3,3]>(image, kernel, kernel_bias)
    positive = Relu(places)
    pooled = ReduceMean<keepdims=0>(positive, sides)
    out = Gemm(pooled, matrix, matrix_bias)
}
"""
NOISE = 0.02  # of the largest output: 8 bits of weights and activations, two layers


@pytest.fixture(scope="module")
def network():
    model, rng = onnx.parser.parse_model(NETWORK), np.random.default_rng(0)
    arrays = {
        "kernel": rng.standard_normal((6, 3, 3, 3)),
        "kernel_bias": rng.standard_normal(6),
        "matrix": rng.standard_normal((6, 4)),
        "matrix_bias": rng.standard_normal(4),
    }
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items())
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "sides"))
    return model


@pytest.fixture(scope="module")
def feeds():
    rng = np.random.default_rng(1)
    return [{"image": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(3)]


def run(model, feed):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["out"], feed)[0]


@pytest.mark.parametrize("symmetric", [False, True])
def test_quantised_graph_computes_nearly_the_same(network, feeds, tmp_path, symmetric):
    folded = fold(network, tmp_path)
    assert len(quantisable(folded)) == 2
    graph = to_int8_graph(folded, feeds, tmp_path, symmetric=symmetric)
    expected, got = run(network, feeds[0]), run(graph, feeds[0])
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert 0 < error < NOISE


def test_symmetric_graph_is_what_tensorrt_takes(network, feeds, tmp_path):
    """Its parser refuses an int32 input of DequantizeLinear, and zero points other than 0 (onnxruntime issue 14229)."""
    graph = to_int8_graph(fold(network, tmp_path), feeds, tmp_path, symmetric=True).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    quantisers = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert sum(node.op_type == "DequantizeLinear" for node in quantisers) >= 4  # two inputs, two weights
    for node in quantisers:
        zero = constants[node.input[2]]
        assert zero.data_type == TensorProto.INT8 and not numpy_helper.to_array(zero).any()
        if node.op_type == "DequantizeLinear":
            source = constants.get(node.input[0])
            assert source.data_type == TensorProto.INT8 if source else made[node.input[0]].op_type == "QuantizeLinear"
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert constants[node.input[2]].data_type == TensorProto.FLOAT


# what a CPU says of itself, and how many bits its products leave for weights
CPUS = [
    ("flags\t\t: fpu avx2 avx512f\n", "x86_64", 7),
    ("flags\t\t: fpu avx2 avx512_vnni\n", "x86_64", 8),
    ("flags\t\t: avx_vnni\n", "AMD64", 8),
    ("Features\t: asimd\n", "aarch64", 8),
    ("", "x86_64", 7),
]


@pytest.mark.parametrize("text, machine, bits", CPUS)
def test_bits_of_weights_follow_the_cpu(tmp_path, text, machine, bits):
    path = tmp_path / "cpuinfo"
    if text:
        path.write_text(text)
    assert weight_bits(str(path), machine) == bits


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_have_so_many_bits(network, feeds, tmp_path, monkeypatch, bits):
    monkeypatch.setattr("zeroseg.export.int8_graph.weight_bits", lambda: bits)
    graph = to_int8_graph(fold(network, tmp_path), feeds, tmp_path).graph
    largest = {
        np.abs(numpy_helper.to_array(t).astype(int)).max()
        for t in graph.initializer
        if t.data_type == TensorProto.INT8 and t.dims and len(t.dims) > 1
    }
    assert largest and all(2 ** (bits - 2) < value <= 2 ** (bits - 1) for value in largest)
