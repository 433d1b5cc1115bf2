"""Q/DQ int8 by ONNX Runtime's static quantiser: per-channel weights, ranges from calibration photos.

Only products with constant weights are quantised (convolutions and linear layers); attention between activations stays
float. For ONNX Runtime on a CPU, activations are unsigned, and weights have 7 bits if instructions add two products in
16 bits (x86 before VNNI). `symmetric` gives TensorRT's form instead: signed, zero point 0, 8 bits, and unchanged
biases, because its parser refuses int32 biases.
"""

import logging
import platform
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from zeroseg.export.data_flow import data_nodes
from zeroseg.export.divergence import name_nodes

OPERATORS = ("Conv", "MatMul", "Gemm")
VNNI = {"avx_vnni", "avx512_vnni", "amx_int8"}  # of /proc/cpuinfo: products of 8 bits add in 32


def fold(model: ModelProto, folder: Path) -> ModelProto:
    """What ONNX Runtime's basic, standard-ONNX optimisations leave: constants folded, BatchNorm in its convolution."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return name_nodes(onnx.load(options.optimized_model_filepath))


def weight_bits(cpuinfo: str = "/proc/cpuinfo", machine: str | None = None) -> int:
    """7 where 8-bit weights could overflow in this CPU's products, or it cannot be told; else 8."""
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return 8
    try:
        flags = next((line for line in Path(cpuinfo).read_text().splitlines() if line.startswith("flags")), "")
    except OSError:
        flags = ""
    return 8 if VNNI.intersection(flags.split()) else 7


def to_int8_graph(
    folded: ModelProto, feeds: list[dict[str, np.ndarray]], folder: Path, *, exclude=(), symmetric: bool = False
) -> ModelProto:
    """The quantised graph of `folded` (see fold). feeds: the network's inputs for the calibration photos; exclude:
    names of nodes that stay float, besides those that are not quantisable(); folder: for temporary files."""
    from onnxruntime import quantization as ortq

    class Reader(ortq.CalibrationDataReader):
        def __init__(self):
            self.left = iter(feeds)

        def get_next(self):
            return next(self.left, None)

    wanted = set(quantisable(folded))
    exclude = [*exclude, *(n.name for n in folded.graph.node if n.op_type in OPERATORS and n.name not in wanted)]
    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(folded, source)
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises what fold() has done
    try:
        ortq.quantize_static(
            str(source), str(target), Reader(), quant_format=ortq.QuantFormat.QDQ, op_types_to_quantize=list(OPERATORS),
            per_channel=True, reduce_range=not symmetric and weight_bits() == 7, nodes_to_exclude=exclude,
            activation_type=ortq.QuantType.QInt8 if symmetric else ortq.QuantType.QUInt8,
            weight_type=ortq.QuantType.QInt8, calibrate_method=ortq.CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True, "ActivationSymmetric": symmetric, "WeightSymmetric": True,
                           "QuantizeBias": not symmetric},
        )  # fmt: skip
    finally:
        logging.root.setLevel(level)
    result = onnx.load(target)
    kept = {entry.key for entry in result.metadata_props}
    result.metadata_props.extend(entry for entry in folded.metadata_props if entry.key not in kept)
    return result


def quantisable(folded: ModelProto) -> list[str]:
    """Names of the nodes that to_int8_graph quantises."""
    weights = {tensor.name for tensor in folded.graph.initializer}
    data = data_nodes(folded)
    return [n.name for n in folded.graph.node if n.op_type in OPERATORS and n.input[1] in weights and n.name in data]
