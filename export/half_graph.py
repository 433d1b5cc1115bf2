"""Convert a graph to float16: weights, activations and arithmetic, with the nodes of `keep` left in float32.

The graph itself is rewritten, so that strongly typed runtimes (TensorRT 11) and ONNX Runtime take it unchanged. Inputs
and outputs stay float32, with one Cast each, and there is one Cast wherever a tensor passes between the precisions;
weights need none. Nodes that the ONNX standard or float16's range (6e-8 to 65504) does not allow stay float32. So do
nodes that depend only on shapes, such as positions: TensorRT computes those on the CPU, where it has no float16.

Normalisations and softmax (FLOAT_OPERATORS) also stay float32, because they sum many values, and a strongly typed
runtime sums in the graph's precision. TensorRT fuses the Casts around them into its kernels. Matrix products are
float16, also those of the assignment: TensorRT's kernels sum them in float32, and Turing has no others.
"""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_HALF_TYPE, _FLOAT_TYPE = "tensor(float16)", "tensor(float)"
FLOAT_OPERATORS = {"InstanceNormalization", "LayerNormalization", "ReduceL2", "Softmax"}
_RESHAPING = {"Expand", "Pad", "Reshape", "Slice", "Squeeze", "Tile", "Unsqueeze"}  # only input 0 has the values


def to_half_graph(model: ModelProto, keep=frozenset()) -> ModelProto:
    """A copy of `model` (float32, names of nodes unique and not empty) with every node outside `keep` in float16."""
    rewriter = _Rewriter(model)
    for node in model.graph.node:
        rewriter.add(node, node.name not in keep and rewriter.can_be_half(node))
    return rewriter.finish()


def half_nodes(model: ModelProto) -> list[str]:
    """Names, in the graph's order, of the nodes that would become float16 if none were kept."""
    rewriter = _Rewriter(model)
    return [node.name for node in model.graph.node if rewriter.touches_float(node) and rewriter.can_be_half(node)]


def rounded_graph(model: ModelProto, keep=frozenset()) -> ModelProto:
    """What to_half_graph(model, keep) gives on a machine that stores float16, as a float32 graph: values and weights
    of its half nodes go through float16.

    ONNX Runtime has no float16 kernels on x86: it drops the casts between such nodes and so hides what overflows.
    """
    half = set(half_nodes(model)) - set(keep)
    types, result = tensor_types(model), ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT}
    nodes, rounded = [], {}
    for node in result.graph.node:
        nodes.append(node)
        if node.name not in half:
            continue
        for i, name in enumerate(node.input):
            if name in weights:
                node.input[i] = f"{name}.rounded"
                values = numpy_helper.to_array(weights[name]).astype(np.float16).astype(np.float32)
                rounded[node.input[i]] = numpy_helper.from_array(values, node.input[i])
        for i, name in enumerate(node.output):
            if types.get(name) == FLOAT:
                node.output[i] = f"{name}.exact"
                nodes.append(helper.make_node("Cast", [node.output[i]], [f"{name}.half"], to=HALF))
                nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=FLOAT))
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(copies)
    result.graph.initializer.extend(rounded.values())
    return result


def tensor_types(model: ModelProto) -> dict[str, int]:
    """Name -> element type of every tensor whose type the standard's inference finds."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.input, *inferred.output]}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def nodes_of_shapes(model: ModelProto) -> set[str]:
    """Names of the nodes whose values follow from the shapes of the inputs alone."""
    constant, of_shapes, names = {tensor.name for tensor in model.graph.initializer}, set(), set()
    for node in model.graph.node:
        values = [
            name for name in node.input[: 1 if node.op_type in _RESHAPING else None] if name and name not in constant
        ]
        if node.op_type == "Shape" or (values and of_shapes.issuperset(values)):
            of_shapes.update(node.output)
            names.add(node.name)
    return names


def transposes_before_weights(model: ModelProto) -> set[str]:
    """Names of the Transpose nodes whose result is multiplied by a weight.

    ONNX Runtime 1.32 ends with a segmentation fault when it optimises these two in float16 on an x86 CPU.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    multiplied = {node.input[0] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights}
    return {node.name for node in model.graph.node if node.op_type == "Transpose" and node.output[0] in multiplied}


class _Rewriter:
    def __init__(self, model: ModelProto):
        self.model = model
        self.opset = next(entry.version for entry in model.opset_import if entry.domain == "")
        self.types = tensor_types(model)
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.float_only = nodes_of_shapes(model) | transposes_before_weights(model)
        self.nodes: list[NodeProto] = []
        self.made = {value.name: FLOAT for value in model.graph.input if self.types.get(value.name) == FLOAT}
        self.new_weights: dict[str, TensorProto] = {}
        self.casts: set[str] = set()

    def touches_float(self, node: NodeProto) -> bool:
        return any(self.types.get(name) == FLOAT for name in [*node.input, *node.output] if name)

    def can_be_half(self, node: NodeProto) -> bool:
        if node.domain or node.name in self.float_only or node.op_type in FLOAT_OPERATORS:
            return False
        schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
        formals = [(schema.inputs, node.input), (schema.outputs, node.output)]
        for parameters, names in formals:
            for i, name in enumerate(names):
                kind = parameters[min(i, len(parameters) - 1)].type_str
                if self.types.get(name) == FLOAT and kind != _FLOAT_TYPE and _HALF_TYPE not in allowed.get(kind, ()):
                    return False
        return all(_fits(self.weights[name]) for name in node.input if name in self.weights)

    def add(self, node: NodeProto, half: bool) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain) if not node.domain else None
        for i, name in enumerate(node.input):
            if self.types.get(name) != FLOAT:
                continue
            fixed = schema and schema.inputs[min(i, len(schema.inputs) - 1)].type_str == _FLOAT_TYPE  # Resize's scales
            copy.input[i] = self._as(name, HALF if half and not fixed else FLOAT)
        if half:
            _make_attributes_half(copy)
        self.nodes.append(copy)
        for name in node.output:
            if self.types.get(name) == FLOAT:
                self.made[name] = HALF if half else FLOAT

    def _as(self, name: str, kind: int) -> str:
        """The name under which tensor `name` can be had in this precision."""
        suffixed = f"{name}.{'half' if kind == HALF else 'float'}"
        if name in self.weights:
            if kind == FLOAT:
                self.new_weights[name] = self.weights[name]
                return name
            values = numpy_helper.to_array(self.weights[name]).astype(np.float16)
            self.new_weights[suffixed] = numpy_helper.from_array(values, suffixed)
            return suffixed
        if self.made[name] == kind:
            return name
        if suffixed not in self.casts:
            self.casts.add(suffixed)
            self.nodes.append(helper.make_node("Cast", [name], [suffixed], name=f"{suffixed}.cast", to=kind))
        return suffixed

    def finish(self) -> ModelProto:
        result = ModelProto()
        result.CopyFrom(self.model)
        for value in result.graph.output:
            if self.made.get(value.name) == HALF:
                self._return_float(value.name)
        others = [t for t in self.model.graph.initializer if t.data_type != FLOAT]
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(self.nodes)
        result.graph.initializer.extend([*others, *self.new_weights.values()])
        return result

    def _return_float(self, name: str) -> None:
        """Give the graph output its float32 back: the tensor gets another name, a Cast the old one."""
        inner = f"{name}.inner"
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, used in enumerate(names):
                    if used == name:
                        names[i] = inner
        self.nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}.cast", to=FLOAT))


def _fits(tensor: TensorProto) -> bool:
    """Whether the values survive: none too large, and no lone number (an eps) that would become 0."""
    if tensor.data_type != FLOAT:
        return True
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return bool(np.isfinite(half).all() and (values.size > 1 or not (half == 0).any() or (values == 0).all()))


def _make_attributes_half(node: NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
            attribute.i = HALF
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
