"""Export the PyTorch model to an ONNX file with free batch size and sides, and its sidecar.

The graph is the reference path: canonical attention, LayerNormalization nodes, no data-dependent control flow.
"""

import json
from collections import Counter

import onnx
import torch
from onnx import ModelProto

from zeroseg import __version__
from zeroseg.commit import current_commit
from zeroseg.errors import ZerosegError
from zeroseg.export import tracing
from zeroseg.export.half_weights import store_weights_as_half
from zeroseg.export.onnx_file import check
from zeroseg.export.wrapper import DenseExportModel, ExportModel
from zeroseg.hub import quiet
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.runtime.base import IMAGE
from zeroseg.sidecar import Sidecar

OPSET = 18  # LayerNormalization came with 17; 18 is the dynamo exporter's own
IR_VERSION = 8  # opset 18's; newer ones only add what the graph does not use, and shut out older runtimes
METADATA_KEY = "zeroseg"
LARGEST_BYTES = 2**31 - 2**24  # of weights: an ONNX file is one protobuf message, which ends at 2 GiB
# Names of the axes; what is a number is fixed by the model.
AXES = {
    "image": ("batch", None, "height", "width"),
    "segment_maps": ("batch", None, "rows", "columns"),
    "segment_embeddings": ("batch", None, None),
    "place_embeddings": ("batch", None, "rows", "columns"),
    "image_embedding": ("batch", None),
}


def trace(model: ZeroSeg | DenseExportModel) -> "torch.onnx.ONNXProgram":
    """The exporter's program: the graph in PyTorch's form and in ONNX's. Takes a ZeroSeg over (see ExportModel)."""
    wrapper = (model if isinstance(model, DenseExportModel) else ExportModel(model)).requires_grad_(False)
    size = sum(value.numel() * value.element_size() for value in wrapper.state_dict().values())
    if size > LARGEST_BYTES:
        raise ZerosegError(
            f"export: the network has {size / 2**30:.1f} GiB of weights, but an ONNX file can hold less "
            "than 2 GiB; use a smaller network"
        )
    multiple = wrapper.multiple
    # Batch and sides all differ from each other and from 1, so that nothing is taken for a constant.
    image = torch.zeros(2, 3, 3 * multiple, 4 * multiple)
    height, width = (multiple * torch.export.Dim(side, min=1, max=1024) for side in ("rows", "columns"))
    shapes = ({0: torch.export.Dim("batch", min=1, max=1024), 2: height, 3: width},)
    prepared = tracing.prepared(wrapper, image[:1, :, :multiple, :multiple])
    # quiet: it logs which constants it does not fold
    with torch.no_grad(), quiet(), tracing.quickly():
        return torch.onnx.export(
            prepared, (image,), dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
            verbose=False, input_names=[IMAGE], output_names=list(wrapper.outputs),
            custom_translation_table=tracing.translations(),
        )  # fmt: skip


def traced_graph(model: ZeroSeg | DenseExportModel) -> ModelProto:
    """The graph alone, which check has not seen. Takes a ZeroSeg over."""
    graph = trace(model).model_proto
    _name_axes(graph)
    _strip(graph)
    halve_first(graph)
    return graph


def to_onnx(model: ZeroSeg | DenseExportModel, sidecar: dict, *, half_weights: bool = False) -> ModelProto:
    """Export and check. The sidecar, without its checksums, goes into the metadata under "zeroseg".

    half_weights stores the weights as float16 (computing stays float32).
    """
    exported = traced_graph(model)
    if half_weights:
        store_weights_as_half(exported)
    describe(exported, sidecar)
    check(exported)
    return exported


def describe(graph: ModelProto, sidecar: dict) -> None:
    """Put the sidecar, without its checksums, into the graph's metadata."""
    described = {key: value for key, value in sidecar.items() if key != "files"}
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(described)})


def described(sidecar: Sidecar) -> dict:
    """The sidecar of an export's files, without their checksums: the model's, and the software behind the export."""
    return {**sidecar.to_dict(), "made_by": made_by()}


def made_by() -> dict[str, str]:
    """The software behind an export: zeroseg and, in a checkout, its commit, and the exporter."""
    import onnxscript

    versions = {
        "zeroseg": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
    }
    commit = current_commit("zeroseg", "kernels", "export")
    return versions | ({"commit": commit} if commit else {})


def halve_first(model: ModelProto) -> None:
    """x * (0.5 * (1 + erf)) becomes (x * 0.5) * (1 + erf), in place: the same numbers, as halving rounds nothing, and
    the order that runtimes know as GELU and fuse.
    """
    graph = model.graph
    alone = [tensor for tensor in graph.initializer if list(tensor.dims) in ([], [1])]
    halves = {tensor.name for tensor in alone if onnx.numpy_helper.to_array(tensor).item() == 0.5}
    made = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        inner = made.get(node.input[1]) if node.op_type == "Mul" else None
        if inner is None or inner.op_type != "Mul" or inner.input[0] not in halves or uses[node.input[1]] != 1:
            continue
        half, bracket = inner.input
        inner.input[0], inner.input[1], node.input[0], node.input[1] = node.input[0], half, node.input[1], bracket


def _strip(model: ModelProto) -> None:
    """Drop what the exporter notes for debugging: stack traces (with this machine's paths), inferred shapes."""
    model.ir_version = IR_VERSION
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for item in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        item.ClearField("doc_string")
        if item is not model:
            del item.metadata_props[:]


def _name_axes(model: ModelProto) -> None:
    for value in [*model.graph.input, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        for dim, name in zip(dims, AXES[value.name], strict=True):
            if name is not None:
                dim.dim_param = name
            elif not dim.HasField("dim_value"):
                raise ZerosegError(
                    f"export: an axis of {value.name} has a fixed size in the model but not in the graph"
                )
