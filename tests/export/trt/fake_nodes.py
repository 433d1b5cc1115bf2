"""zeroseg's plugin nodes as the fake TensorRT takes them: what it refuses, and what they compute, in plain ONNX.

The bodies are written from the ops' definitions, so that a network with plugins can run in ONNX Runtime and be compared
with the one without.
"""

import sys

import onnx
from onnx import helper

V3 = {"segment_attention": (3, 2, {"eps", "soft_pooling"})}  # csrc/tensorrt
OURS = {"plugin_namespace", "plugin_version", "aot"}


def is_plugin(node) -> bool:
    return any(item.name == "plugin_namespace" for item in node.attribute)


def attributes_of(node) -> dict:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def refuse(node, libraries) -> str | None:
    """Why the parser cannot make a plugin of the node; None where it can."""
    attributes = attributes_of(node)
    missing = "Plugin not found, are the plugin name, version, and namespace correct?"
    if attributes["plugin_namespace"] != b"zeroseg" or attributes["plugin_version"] != b"1":
        return missing
    own = {name: value for name, value in attributes.items() if name not in OURS}
    if attributes.get("aot"):
        module = sys.modules.get("tensorrt.plugin")
        plugin = getattr(module, "registered", {}).get(f"zeroseg::{node.op_type}")
        if plugin is None or plugin.kernel is None:
            return missing
        assert {name: type(value) for name, value in own.items()} == plugin.attributes, node.name
        assert (len(node.input), len(node.output)) == (len(plugin.tensors), plugin.outputs), node.name
        return None
    if node.op_type not in V3 or not libraries:
        return missing
    assert (len(node.input), len(node.output), set(own)) == V3[node.op_type], node.name
    return None


def needs_library(content: bytes) -> bool:
    return any(
        is_plugin(node) and not attributes_of(node).get("aot") for node in onnx.load_from_string(content).graph.node
    )


def with_functions(content: bytes) -> bytes:
    """The network with every plugin node replaced by plain nodes that compute the same."""
    model = onnx.load_from_string(content)
    nodes, count = [], 0
    for node in model.graph.node:
        if not is_plugin(node):
            nodes.append(node)
            continue
        count += 1
        nodes += _plain(node, attributes_of(node), f"plain/{count}/")
    if not count:
        return content
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


ASSIGN = """
    turned = Transpose<perm = [0, 2, 1]>(a)
    logits = MatMul(b, turned)
    soft = Softmax<axis = -1>(logits)
    winner = ArgMax<axis = -1, keepdims = 0>(logits)
    choice = Cast<to = 6>(winner)
"""
SOFT_WEIGHTS = "used = Identity(SOFT)"
HARD_WEIGHTS = """
    zero_one = Constant<value_floats = [0.0, 1.0]>()
    wide = Cast<to = 7>(CHOICE)
    used = OneHot<axis = -1>(wide, groups, zero_one)
"""
POOL = """
    axis = Constant<value_ints = [1]>()
    total = ReduceSum<keepdims = 0>(used, axis)
    eps = Constant<value_float = EPS>()
    weight = Add(total, eps)
    last = Constant<value_ints = [2]>()
    column = Unsqueeze(weight, last)
    sums = Einsum<equation = "bls,bld->bsd">(used, V)
    x = Div(sums, column)
"""


def _plain(node, attributes, prefix) -> list:
    """The op's definition; names inside get the prefix, but `a`, `b`, `c` are the inputs and `x`, `y` the outputs."""
    weights = SOFT_WEIGHTS if attributes.get("soft_pooling") else HARD_WEIGHTS
    if node.op_type == "segment_attention_assign":
        text = ASSIGN + "x = Identity(soft) y = Identity(choice)"
    elif node.op_type == "segment_attention_pool":
        groups = f"groups = Constant<value_int = {attributes['groups']}>()"
        text = groups + weights.replace("SOFT", "b").replace("CHOICE", "b") + POOL.replace("V)", "a)")
        text += "y = Identity(weight)"
    else:
        groups = "groups = Shape<start = 1, end = 2>(a)"
        text = ASSIGN + groups + weights.replace("SOFT", "soft").replace("CHOICE", "choice") + POOL.replace("V)", "c)")
        text += "y = Identity(soft)"
    text = text.replace("EPS", repr(float(attributes.get("eps", 0))))
    made = onnx.parser.parse_graph("g (float[n] a, float[n] b, float[n] c) => (float[n] x, float[n] y) {" + text + "}")
    outside = dict(zip("abc", node.input, strict=False)) | dict(zip("xy", node.output, strict=True)) | {"": ""}
    for inner in made.node:
        for names in (inner.input, inner.output):
            names[:] = [outside.get(name, prefix + name) for name in names]
        inner.name = prefix + inner.output[0]
    return list(made.node)
