"""A network small enough to read, with the shipped model's input and outputs.

Its segments are red, green, blue and dark patches. The image is averaged over patches of 16 pixels; segment k's logit
is 10 times channel k of the normalised image, and 0 for the dark segment. Segment k's embedding is the k-th unit
vector, so the label with that vector names it, with score 1.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

DIM = 512
SPACE = "openai/clip-vit-base-patch32"
NAMES = ["red", "green", "blue", "dark"]


def vectors(*names: str) -> np.ndarray:
    """The unit rows that name these segments."""
    return np.eye(len(NAMES), DIM, dtype=np.float32)[[NAMES.index(name) for name in names]]


def sidecar(**changes) -> dict:
    document = {
        "format": 2,
        "name": "colors",
        "embedding_space": SPACE,
        "embedding_dim": DIM,
        "segments": 4,
        "stride": 16,
        "input": {"short_side": 64, "multiple": 32, "max_long_side": 256, "mean": [0.5] * 3, "std": [0.5] * 3},
        "threshold": 0.5,
        "scoring": {"centre": None, "share": 0.0},
        "files": {},
        "card": {},
    }
    return document | changes


def write_color_model(folder: Path, name: str = "colors", **changes) -> Path:
    """Write the ONNX file and its sidecar into folder; changes replace entries of the sidecar."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, array):
        return numpy_helper.from_array(np.asarray(array), name)

    nodes = [
        helper.make_node("AveragePool", ["image"], ["patches"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Mul", ["patches", "ten"], ["bright"]),
        helper.make_node("ReduceSum", ["bright", "channel_axis"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["dark"]),
        helper.make_node("Concat", ["bright", "dark"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["segment_maps"], axis=1),
        helper.make_node("ReduceMean", ["segment_maps"], ["share"], axes=[2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["share", "last_axis"], ["share_column"]),
        helper.make_node("Mul", ["share_column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "embeddings"], ["segment_embeddings"]),
        helper.make_node("MatMul", ["share", "embeddings"], ["image_embedding"]),
    ]
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "colors",
        [
            helper.make_tensor_value_info("image", float32, ["B", 3, "H", "W"]),
        ],
        [
            helper.make_tensor_value_info("segment_maps", float32, ["B", 4, "h", "w"]),
            helper.make_tensor_value_info("segment_embeddings", float32, ["B", 4, DIM]),
            helper.make_tensor_value_info("image_embedding", float32, ["B", DIM]),
        ],
        [
            constant("ten", np.float32(10)),
            constant("zero", np.float32(0)),
            constant("channel_axis", [1]),
            constant("last_axis", [2]),
            constant("embeddings", vectors(*NAMES)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(sidecar(files=files) | changes))
    return path
