"""Find where two graphs diverge: compare every node's output on one input, in the graph's order."""

from typing import NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, helper

from zeroseg.export.half_graph import tensor_types

# relative error ||a - b|| / ||a|| of a node's output above which it counts as another value, by precision
TOLERANCE = {"fp32": 1e-2, "fp16": 5e-2, "int8": 0.3}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


class Divergence(NamedTuple):
    """The first node whose output differs by more than `tolerance`; inputs_error is the largest error of its inputs."""

    node: str
    operator: str
    error: float
    inputs_error: float

    def __str__(self) -> str:
        return (
            f"first node that diverges: {self.node} ({self.operator}), relative error {self.error:.2g}, "
            f"error of its inputs {self.inputs_error:.2g}"
        )


def node_values(model: ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensor name -> value of every floating-point output of every node, and the feed, as ONNX Runtime computes them
    without fusing anything."""
    import onnxruntime

    exposed = ModelProto()
    exposed.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    types = tensor_types(model)
    for node in model.graph.node:
        for name in node.output:
            if name and name not in outputs and types.get(name) in _FLOATS:
                exposed.graph.output.append(helper.make_tensor_value_info(name, types[name], None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(feed) | dict(zip(names, session.run(names, feed), strict=True))


def torch_values(program, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same of a traced model (to_onnx.trace): the exporter gives its tensors the names of PyTorch's graph."""
    import torch

    traced = program.exported_program
    arguments, given = [], iter([torch.from_numpy(value) for value in feed.values()])
    for spec in traced.graph_signature.input_specs:
        if spec.kind == torch.export.graph_signature.InputKind.USER_INPUT:
            arguments.append(next(given))
        else:
            arguments.append(traced.state_dict.get(spec.target, traced.constants.get(spec.target)))
    values = dict(feed)

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node):
            value = super().run_node(node)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                values[node.name] = value.detach().numpy()
            return value

    with torch.no_grad():
        Recorder(traced.graph_module).run(*arguments)
    return values


def errors(reference: dict, candidate: dict) -> dict[str, float]:
    """Name -> relative error of every tensor that both have in the same shape; infinite where not finite."""
    found = {}
    for name, value in reference.items():
        other = candidate.get(name)
        if other is None or np.shape(other) != np.shape(value):
            continue
        a, b = np.asarray(value, np.float64), np.asarray(other, np.float64)
        if np.isfinite(a).all() and not np.isfinite(b).all():
            found[name] = np.inf
        else:
            found[name] = float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-12))
    return found


def first_divergence(model: ModelProto, reference: dict, candidate: dict, tolerance: float) -> Divergence | None:
    """Walk `model`, whose tensors the two sets of values name. Where no node passes the tolerance, the one whose error
    grows most over that of its inputs; None when nothing differs at all."""
    error = errors(reference, candidate)
    every = list(_walk(model, error))
    beyond = [found for found in every if not found.error <= tolerance]
    if beyond:
        return beyond[0]
    worst = max(every, key=lambda found: found.error - found.inputs_error, default=None)
    return worst if worst and worst.error > 0 else None


def rank_by_growth(model: ModelProto, reference: dict, candidate: dict, operators: set[str]) -> list[str]:
    """Names of the nodes of these operators, sorted by the error that they add, largest first."""
    growth = {found.node: found.error - found.inputs_error for found in _walk(model, errors(reference, candidate))}
    names = [node.name for node in model.graph.node if node.op_type in operators]
    return sorted(names, key=lambda name: -growth.get(name, 0.0))


def _walk(model: ModelProto, error: dict[str, float]):
    for node in model.graph.node:
        own = [error[name] for name in node.output if name in error]
        if own:
            yield Divergence(
                node.name or node.output[0],
                node.op_type,
                max(own),
                max((error.get(name, 0.0) for name in node.input), default=0.0),
            )


def name_nodes(model: ModelProto) -> ModelProto:
    """Give every node a unique name, in place."""
    taken = set()
    for i, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{i}"
        taken.add(node.name)
    return model
