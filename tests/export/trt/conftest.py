"""A small exported network, and machines with a fake TensorRT and a fake GPU library."""

import hashlib
import json
import sys

import numpy as np
import pytest

from tests.export.trt import fake_cuda
from tests.export.trt.fake_machine import FakeMachine

GPU_LIBRARIES = ("cuda-12.9.8", "cuda-13.5.0", "pycuda-2026.1")


NETWORK = """
<ir_version: 8, opset_import: ["" : 18]>
net (float[batch,3,height,width] image)
    => (float[batch,8,rows,columns] segment_maps, float[batch,8,16] segment_embeddings,
        float[batch,16] image_embedding)
{
    logits = Conv<kernel_shape=[16,16], strides=[16,16]>(image, map_weight)
    segment_maps = Softmax<axis=1>(logits)
    features = Conv<kernel_shape=[16,16], strides=[16,16]>(image, feature_weight)
    flat_maps = Reshape(segment_maps, flat_8)
    flat_features = Reshape(features, flat_16)
    columns_first = Transpose<perm=[0,2,1]>(flat_features)
    segments = MatMul(flat_maps, columns_first)
    segment_embeddings = LpNormalization<axis=2, p=2>(segments)
    image_embedding = ReduceMean<keepdims=0>(segment_embeddings, one)
}
"""


SIDECAR = {
    "format": 2, "name": "test", "embedding_space": "test/space", "embedding_dim": 16, "segments": 8, "stride": 16,
    "input": {"short_side": 64, "multiple": 32, "max_long_side": 128, "mean": [0.5] * 3, "std": [0.5] * 3},
    "threshold": 0.0, "scoring": {"centre": None, "share": 0.0}, "files": {}, "card": {"data": "none"},
}  # fmt: skip


def write_network(folder):
    """Path of a small network with a zeroseg network's inputs and outputs, and its sidecar beside it."""
    onnx = pytest.importorskip("onnx")
    model = onnx.parser.parse_model(NETWORK)
    rng = np.random.default_rng(0)
    arrays = {
        "map_weight": rng.normal(0, 0.1, (8, 3, 16, 16)).astype(np.float32),
        "feature_weight": rng.normal(0, 0.1, (16, 3, 16, 16)).astype(np.float32),
        "flat_8": np.array([0, 8, -1]),
        "flat_16": np.array([0, 16, -1]),
        "one": np.array([1]),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in arrays.items())
    onnx.checker.check_model(model, full_check=True)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    document = {**SIDECAR, "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}}
    path.with_suffix(".json").write_text(json.dumps(document))
    return path


@pytest.fixture
def network(tmp_path):
    """write_network's"""
    return write_network(tmp_path)


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    """To compare the fixture `network` on; drawing their photo takes longer than building an engine."""
    from zeroseg.artifact import read_artifact
    from zeroseg.export.gate_labels import gate_cases
    from zeroseg.runtime.opening import open_runner

    artifact = read_artifact(write_network(tmp_path_factory.mktemp("cases")))
    return gate_cases(open_runner(artifact, 1), artifact.sidecar, [])[:4]


@pytest.fixture
def install(monkeypatch, request):
    """install(machine, tensorrt version, GPU library) -> the fake tensorrt, importable like the real one."""

    def install(machine=None, version="10.3.0", library="cuda-12.9.8"):
        machine = machine or FakeMachine()
        for name in ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime", "pycuda", "pycuda.driver"):
            monkeypatch.setitem(sys.modules, name, None)  # not installed
        if library is not None:
            kind, number = library.split("-")
            modules = (fake_cuda.cuda_bindings if kind == "cuda" else fake_cuda.pycuda)(machine, number)
            for name, module in modules.items():
                monkeypatch.setitem(sys.modules, name, module)
        if version is None:
            return None
        from tests.export.trt.fake_tensorrt import make_tensorrt

        trt = make_tensorrt(machine, version, request.getfixturevalue("rtx"))
        trt.machine = machine
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        return trt

    return install


@pytest.fixture(scope="session")
def rtx():
    """The real TensorRT for RTX; tests that need it are skipped where it cannot be had."""
    from zeroseg.errors import UnavailableError
    from zeroseg.runtime.rtx_library import load_rtx

    try:
        return load_rtx("this test")
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def unit_rows():
    def make(count, seed=0, dim=16):
        rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return make
