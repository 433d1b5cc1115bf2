"""Weights stored as float16, computed in float32: half the file, the same graph.

Every large float32 initialiser becomes a float16 one and a Cast to float32 under the old name. Runtimes fold the Cast
when they load the file, so speed and memory are those of float32. Rounding moves a weight by up to 2^-11 of itself;
export parity measures what that does to the masks.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zeroseg.errors import ZerosegError

SMALLEST = 256  # elements: below, the Cast costs more bytes than it saves


def store_weights_as_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Change the model in place and return it. ZerosegError when a weight does not fit float16."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        name = tensor.name
        with np.errstate(over="ignore"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise ZerosegError(f"weight {name} does not fit float16; export with --weights float32")
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
