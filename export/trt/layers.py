"""The layers of a finished engine, as TensorRT's builder describes them: what was fused, and which precision is used.

Engines that are built without a GPU cannot be opened without one, so the engine inspector does not answer. The
builder's own log does: with detailed profiling it has one line per layer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = ("layer", "kind", "precision", "inputs", "outputs", "onnx_nodes")
_TENSOR = re.compile(r"\{ Name: ([^,]*),.*?Dimensions: \[([-\d,]*)\],.*?Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_HEAD = re.compile(r"Name: (.*?), LayerType: ([^,]*), ")


@dataclass(frozen=True)
class Tensor:
    """shape: -1 where the axis is free. dtype: TensorRT's word, such as "Half"."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Layer:
    """kind: TensorRT's word, such as "gemm"; "kgen" is a generated kernel. nodes: the ONNX nodes in it."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[str, ...]

    @property
    def precision(self) -> str:
        """The types of what it reads and gives, "Half" or "Half+Float"; "" for a layer without tensors."""
        return "+".join(dict.fromkeys(tensor.dtype for tensor in (*self.inputs, *self.outputs)))


def read_layer(line: str) -> Layer:
    """One line of the builder's log, "Name: ..., LayerType: ..., Inputs: [...], ...". ValueError for another line."""
    head = _HEAD.match(line)
    if head is None:
        raise ValueError(f"not the description of a layer: {line[:80]!r}")
    return Layer(
        head[1].strip("[]"),
        head[2],
        _tensors(line, "Inputs", "Constants|Outputs"),
        _tensors(line, "Constants", "Outputs"),
        _tensors(line, "Outputs", "TacticName|ParameterType|StreamId"),
        tuple(dict.fromkeys(_NODE.findall(line))),
    )


def _tensors(line: str, section: str, following: str) -> tuple[Tensor, ...]:
    found = re.search(rf"{section}: \[(.*?)\], (?:{following}):", line)
    return tuple(
        Tensor(name, tuple(int(side) for side in shape.split(",") if side), dtype)
        for name, shape, dtype in _TENSOR.findall(found[1] if found else "")
    )


def write_layers(layers: Sequence[Layer], path: Path) -> None:
    """A table of tab-separated columns (HEADER), one layer a line, in the order in which they run."""

    def cell(tensors: Sequence[Tensor]) -> str:
        return " ".join(f"{tensor.dtype}[{','.join(map(str, tensor.shape))}]" for tensor in tensors)

    lines = ["\t".join(HEADER)]
    for layer in layers:
        row = (layer.name, layer.kind, layer.precision, cell(layer.inputs), cell(layer.outputs), " ".join(layer.nodes))
        lines.append("\t".join(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
