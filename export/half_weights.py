"""Store weights as float16 and compute in float32: half the file size, the same graph.

Every large float32 initialiser becomes a float16 one and a Cast to float32 under the old name. Runtimes fold the Cast
when they load the file, so speed and memory are those of float32. A weight with a float16 value stays exact. The
exporter may have multiplied float16 weights by the scales of a following normalisation; the products are not float16
values. Then the model's own weights are stored, with the scales, one per output channel, beside them. All others are
rounded by up to 2^-11 of their value; export parity measures the effect on the masks.

A weight that the exporter has transposed is stored as the checkpoint has it, with a Transpose that runtimes fold as
well. Then both files have the same bytes, and Git stores them once.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zeroseg.errors import ZerosegError

SMALLEST = 256  # elements: below, the Cast costs more bytes than it saves
SAME_SCALE = 1e-6  # relative difference between a channel's quotients that float32 products have


def store_weights_as_half(model: onnx.ModelProto, own: Mapping[str, np.ndarray] = {}) -> onnx.ModelProto:  # noqa: B006
    """Change the model in place and return it. ZerosegError when a weight does not fit float16.

    own: the weights as the network has them, float32, by the names of its state_dict.
    """
    nodes, scales = [], []
    matrices = {_digest(_halved(weight)) for weight in own.values() if weight.ndim == 2}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        half, scale = _halved(values), None
        if half is None or (half != values).any():
            half, scale = _unscaled(values, own.get(name.removeprefix("model."))) or (half, None)
            if half is None:
                raise ZerosegError(f"weight {name} does not fit float16; export with --weights float32")
            if scale is None and values.ndim == 1:
                continue  # biases and the like are small, and rounding them moves whole channels
        turned = half.ndim == 2 and _digest(half) not in matrices and _digest(half.T) in matrices
        tensor.CopyFrom(numpy_helper.from_array(half.T.copy() if turned else half, f"{name}.half"))
        cast = name if scale is None and not turned else f"{name}.own"
        nodes.append(helper.make_node("Cast", [tensor.name], [cast], name=f"{cast}.cast", to=TensorProto.FLOAT))
        if turned:
            nodes.append(helper.make_node("Transpose", [cast], [name], name=f"{name}.turned", perm=[1, 0]))
        if scale is not None:
            scales.append(numpy_helper.from_array(scale, f"{name}.scale"))
            nodes.append(helper.make_node("Mul", [cast, f"{name}.scale"], [name], name=f"{name}.scaled"))
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(scales)
    return model


def _digest(half: np.ndarray | None) -> bytes:
    return b"" if half is None else hashlib.sha256(repr(half.shape).encode() + half.tobytes()).digest()


def _halved(values: np.ndarray) -> np.ndarray | None:
    """values as float16, None if they do not fit."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.isfinite(half).all() else None


def _unscaled(values: np.ndarray, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """(own as float16, scale of shape (C, 1, ...) float32) if values are float16 weights of own times a scale each."""
    if own is None or own.shape != values.shape or own.ndim < 2:
        return None
    half = _halved(own)
    if half is None or (half != own).any():
        return None
    rows, scaled = own.reshape(len(own), -1).astype(np.float64), values.reshape(len(own), -1)
    scale = (rows * scaled).sum(1) / np.maximum((rows * rows).sum(1), np.finfo(np.float64).tiny)
    if not np.allclose(rows * scale[:, None], scaled, rtol=SAME_SCALE, atol=0):
        return None
    return half, scale.astype(np.float32).reshape(-1, *[1] * (own.ndim - 1))
