"""The network for TensorRT with --plugins: zeroseg's plugin nodes instead of plain ones.

The ONNX file on disk stays plain ONNX, which every runtime takes and which the gate compares with. Only the bytes that
go to TensorRT's parser hold

    segment_attention      (v3)   q, k, v -> pooled, soft
    segment_attention_assign, segment_attention_pool
                           (aot)  q, k -> soft, choice;  v, choice or soft -> pooled, total

in float32: around them a network of another precision casts.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from zeroseg.errors import ZerosegError
from zeroseg.runtime.trt_plugins import NAMESPACE

FLOAT = TensorProto.FLOAT


class Grouping(NamedTuple):
    """Names of a grouping stage's tensors: what comes in, what goes out, and how values are pooled."""

    q: str
    k: str
    v: str
    soft: str
    pooled: str
    eps: float
    soft_pooling: bool


def insert_plugins(content: bytes, kind: str, source: str) -> bytes:
    """The ONNX file `content` with plugin nodes of `kind`, "aot" or "v3".

    ZerosegError, in one line, if the network has nothing that the plugins can replace.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    graph = _Graph(model)
    groupings = [found for node in model.graph.node if (found := graph.grouping(node)) is not None]
    if not groupings:
        raise ZerosegError(
            f"{source}: --plugins {kind}: has no assignment of tokens to segments in a form that the "
            "plugins support; leave --plugins out"
        )
    for index, grouping in enumerate(groupings):
        graph.replace(grouping, kind, f"{NAMESPACE}/{index}")
    _drop_unused(model)
    _sort(model)
    del model.graph.value_info[:]
    return model.SerializeToString()


class _Graph:
    def __init__(self, model: ModelProto):
        self.graph = model.graph
        self.made = {name: node for node in model.graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        self.types = {value.name: value.type.tensor_type for value in values}

    def above(self, name: str, operator: str) -> NodeProto | None:
        """The node that makes `name`, casts aside, if it is such an operator."""
        node = self.made.get(self.uncast(name))
        return node if node is not None and node.op_type == operator else None

    def uncast(self, name: str) -> str:
        while (node := self.made.get(name)) is not None and node.op_type == "Cast":
            name = node.input[0]
        return name

    def scalar(self, name: str) -> float | None:
        tensor = self.constants.get(self.uncast(name))
        return None if tensor is None or np.prod(tensor.dims, initial=1) != 1 else numpy_helper.to_array(tensor).item()

    def grouping(self, pool: NodeProto) -> Grouping | None:
        """The grouping stage whose pooling `pool` is: (a / (sum of a + eps)) v, a the soft map or the one-hot of it."""
        divide = self.above(pool.input[0], "Div") if pool.op_type == "MatMul" else None
        turned = self.above(divide.input[0], "Transpose") if divide is not None else None
        plus = self.above(divide.input[1], "Add") if turned is not None else None
        total = self.above(plus.input[0], "ReduceSum") if plus is not None else None
        if total is None or self.uncast(total.input[0]) != turned.output[0] or _axes(turned) != [0, 2, 1]:
            return None
        eps = self.scalar(plus.input[1])
        soft = self.above(turned.input[0], "Softmax")
        chosen = self.above(turned.input[0], "Equal") if soft is None else None
        largest = self.above(chosen.input[0], "ArgMax") if chosen is not None else None
        if largest is not None:
            soft = self.above(largest.input[0], "Softmax")
        if eps is None or eps <= 0 or soft is None or _number(soft, "axis", -1) not in (-1, 2):
            return None
        logits = self.above(soft.input[0], "MatMul")
        query = self.above(logits.input[1], "Transpose") if logits is not None else None
        if query is None or _axes(query) != [0, 2, 1] or not self.groups(query.input[0]):
            return None
        return Grouping(
            query.input[0], logits.input[0], pool.input[1], soft.output[0], pool.output[0], eps, largest is None
        )

    def groups(self, name: str) -> int:
        """How many groups a tensor (B, groups, C) has; 0 where its shape does not say."""
        dims = self.types[name].shape.dim if name in self.types else ()
        return dims[1].dim_value if len(dims) == 3 else 0

    def replace(self, stage: Grouping, kind: str, prefix: str) -> None:
        q, k, v = (self._as_float(name, prefix) for name in (stage.q, stage.k, stage.v))
        soft, pooled = (self._free(name, prefix) for name in (stage.soft, stage.pooled))
        pooling = {"eps": stage.eps, "soft_pooling": int(stage.soft_pooling)}
        if kind == "v3":
            self._plugin("segment_attention", kind, [q, k, v], [pooled, soft], prefix, **pooling)
            return
        choice, groups = f"{prefix}/choice", self.groups(stage.q)
        self._plugin("segment_attention_assign", kind, [q, k], [soft, choice], prefix, groups=groups)
        self._plugin(
            "segment_attention_pool",
            kind,
            [v, soft if stage.soft_pooling else choice],
            [pooled, f"{prefix}/total"],
            prefix,
            groups=groups,
            **pooling,
        )

    def _plugin(self, name: str, kind: str, inputs: list[str], outputs: list[str], prefix: str, **attributes) -> None:
        if kind == "aot":
            attributes["aot"] = 1  # TensorRT's parser makes the ahead-of-time plugin of it
        self.graph.node.append(
            helper.make_node(
                name, inputs, outputs, f"{prefix}/{name}", plugin_namespace=NAMESPACE, plugin_version="1", **attributes
            )
        )

    def _as_float(self, name: str, prefix: str) -> str:
        if self.types[name].elem_type == FLOAT:
            return name
        self.graph.node.append(helper.make_node("Cast", [name], [f"{prefix}/{name}"], f"{prefix}/{name}", to=FLOAT))
        return f"{prefix}/{name}"

    def _free(self, name: str, prefix: str) -> str:
        """Take the node that makes `name` away; returns the float32 tensor to make instead, cast back where needed."""
        self.graph.node.remove(self.made.pop(name))
        if self.types[name].elem_type == FLOAT:
            return name
        self.graph.node.append(
            helper.make_node(
                "Cast", [f"{prefix}/{name}"], [name], f"{prefix}/back/{name}", to=self.types[name].elem_type
            )
        )
        return f"{prefix}/{name}"


def _number(node: NodeProto, name: str, default: int) -> int:
    return next((item.i for item in node.attribute if item.name == name), default)


def _axes(node: NodeProto) -> list[int]:
    return next((list(item.ints) for item in node.attribute if item.name == "perm"), [])


def _drop_unused(model: ModelProto) -> None:
    """Take out nodes that nobody reads, and constants alike."""
    graph, wanted = model.graph, {value.name for value in model.graph.output}
    while True:
        uses = Counter(name for node in graph.node for name in node.input)
        idle = [node for node in graph.node if not any(uses[name] or name in wanted for name in node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if not uses[tensor.name]]:
        graph.initializer.remove(tensor)


def _sort(model: ModelProto) -> None:
    """Every node behind those that make its inputs; else the order stays."""
    graph = model.graph
    ready = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if ready.issuperset(node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        assert len(later) < len(waiting), "a cycle"
        waiting = later
    del graph.node[:]
    graph.node.extend(ordered)
