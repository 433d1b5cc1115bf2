"""Find the nodes of a graph that depend on the values of its inputs, and those that depend only on their sizes."""

from onnx import ModelProto


def data_nodes(model: ModelProto) -> set[str]:
    """Names of the nodes whose values depend on the values of an input.

    The others compute with shapes and constants (grid positions, for example): a few numbers, cheap in any precision,
    whose ranges depend on the image size.
    """
    reached = {value.name for value in model.graph.input}
    found = set()
    for node in model.graph.node:  # the standard has them in topological order
        if node.op_type not in ("Shape", "Size") and reached.intersection(node.input):
            reached.update(node.output)
            found.add(node.name)
    return found
