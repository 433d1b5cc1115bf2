"""A traced tower's graph: its runtime, and the gate that every export passes, on the bundled photos."""

import numpy as np
import onnx

from zeroseg.dense.model import MAX_LONG_SIDE, DenseRunner
from zeroseg.dense.weights import MEAN, STD
from zeroseg.export.run import ExportOptions, make_gate
from zeroseg.export.source import Source
from zeroseg.export.variants import Workshop
from zeroseg.runtime.base import DENSE_OUTPUTS
from zeroseg.sidecar import DenseInput, InputSpec, Scoring, Sidecar


def image_of(patch, shape):
    batch, rows, columns = shape
    return np.random.default_rng(batch).standard_normal((batch, 3, rows * patch, columns * patch)).astype(np.float32)


def session_of(graph):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sidecar_of(tower, dim: int) -> Sidecar:
    """What an export of the tower says of it: windows of its own size at half that stride, as is the default."""
    window, place = tower.window, tower.place
    stride = max(1, window // 2 // place) * place
    dense = DenseInput(
        window, stride, tower.reading, "open_clip:none/none", 1, (), np.zeros((0, dim), np.float32), tower.multiple
    )
    given = InputSpec(window * 3 // 2, place, MAX_LONG_SIDE, MEAN, STD)
    return Sidecar("tower", "test/space", dim, 1, place, given, -1.0, Scoring(), {}, {}, dense)


def passes_the_gate(tower, graph: onnx.ModelProto, folder, precisions=("fp32", "fp16")) -> None:
    """Assert that the graph passes in each precision; the message is the gate's verdict."""
    shape = next(value for value in graph.graph.output if value.name == DENSE_OUTPUTS[1]).type.tensor_type.shape
    sidecar = sidecar_of(tower, shape.dim[1].dim_value)
    gate = make_gate(Source(DenseRunner(tower), sidecar, lambda: None), ExportOptions())
    workshop = Workshop(graph, sidecar.to_dict(), gate, folder)
    for precision in precisions:
        parity = workshop.make(precision).parity
        assert parity.ok, f"{precision}: {parity.why_not()}"


def graph_of_reading(graph: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Of a graph with an output per reading, the graph of one of them with the names of every export."""
    alone = onnx.ModelProto()
    alone.CopyFrom(graph)
    wanted = [next(value for value in graph.graph.output if value.name == old) for old in (name, DENSE_OUTPUTS[1])]
    del alone.graph.output[:]
    alone.graph.output.extend(wanted)
    alone.graph.output[0].name = DENSE_OUTPUTS[0]
    for node in alone.graph.node:
        for names in (node.input, node.output):
            for i, other in enumerate(names):
                if other == name:
                    names[i] = DENSE_OUTPUTS[0]
    return alone
