"""A network with zeroseg's input and outputs whose engine takes half a second to build."""

import hashlib
import json

import numpy as np
import pytest

NETWORK = """
<ir_version: 8, opset_import: ["" : 18]>
net (float[batch,3,height,width] image)
    => (float[batch,8,rows,columns] segment_maps, float[batch,8,16] segment_embeddings, float[batch,16] image_embedding)
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
    "scoring": {"share": 0.0}, "threshold": 0.0, "files": {}, "card": {"data": "none"},
}  # fmt: skip


def write_small_network(folder):
    """Path of net.onnx, its description beside it."""
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
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{index}"
    onnx.checker.check_model(model, full_check=True)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    document = {**SIDECAR, "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}}
    path.with_suffix(".json").write_text(json.dumps(document))
    return path
