"""Tiny ONNX networks with the inputs and outputs of the helper teachers' files."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def _save(path, nodes, inputs, outputs, constants):
    def info(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "stand-in",
        [info(*item) for item in inputs],
        [info(*item) for item in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def save_dino(folder, seed: int = 0) -> None:
    """saliency = the mean over the channels, through a sigmoid; the tokens = a random linear map per layer of the mean
    colour of each patch, a zero class token first."""
    rng = np.random.default_rng(seed)
    constants = {
        "axes": np.array([1], np.int64),
        "flat": np.array([0, 3, -1], np.int64),
        "pads": np.array([0, 1, 0, 0, 0, 0], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["saliency"]),
        helper.make_node("AveragePool", ["image"], ["patches"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Reshape", ["patches", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
    ]
    for layer in (6, 9, 12):
        constants[f"w{layer}"] = rng.normal(size=(3, 8)).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", ["rows", f"w{layer}"], [f"places{layer}"]),
            helper.make_node("Pad", [f"places{layer}", "pads"], [f"tokens_{layer}"]),
        ]
    del constants["axes"]
    outputs = [("saliency", ["B", 1, "H", "W"]), *((f"tokens_{n}", ["B", "T", 8]) for n in (6, 9, 12))]
    _save(folder / "dinov2s_saliency.onnx", nodes, [("image", ["B", 3, "H", "W"])], outputs, constants)


def save_nanodet(folder, scores: dict, sides: dict) -> None:
    """The same answer to every photo: scores and sides by stride, as arrays of the real shapes."""
    nodes, constants, outputs = [], {}, []
    zero = {"zero": np.zeros(1, np.float32)}
    nodes.append(helper.make_node("ReduceMean", ["image"], ["one"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["one", "zero"], ["nothing"]))
    for stride in (8, 16, 32):
        for name, values in (("scores", scores[stride]), ("sides", sides[stride])):
            constants[f"c_{name}_{stride}"] = values
            nodes.append(helper.make_node("Add", [f"c_{name}_{stride}", "nothing"], [f"{name}_{stride}"]))
            outputs.append((f"{name}_{stride}", list(values.shape)))
    _save(folder / "nanodet.onnx", nodes, [("image", [1, 3, 416, 416])], outputs, constants | zero)


def save_centernet(folder, detections: np.ndarray) -> None:
    """The same (1, 100, 6) answer to every photo."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["detections"]),
    ]
    constants = {"zero": np.zeros(1, np.float32), "answer": detections}
    outputs = [("detections", [1, 100, 6])]
    _save(folder / "centernet.onnx", nodes, [("image", [1, 512, 512, 3])], outputs, constants)


def save_selfie(folder) -> None:
    """person = the red channel."""
    constants = {"index": np.array([0], np.int64)}
    nodes = [helper.make_node("Gather", ["image", "index"], ["person"], axis=3)]
    outputs = [("person", [1, 256, 256, 1])]
    _save(folder / "selfie.onnx", nodes, [("image", [1, 256, 256, 3])], outputs, constants)


@pytest.fixture(scope="session")
def stand_ins():
    """Functions that write a network's file into a folder."""
    return SimpleNamespace(
        save_dino=save_dino, save_nanodet=save_nanodet, save_centernet=save_centernet, save_selfie=save_selfie
    )
