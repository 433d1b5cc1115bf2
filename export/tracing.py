"""What makes tracing quick. With symbols for sizes it takes PyTorch some 20 ms per operator, and the exporter does it
three times.

The second time only replaces operators for which it has no translation. In most networks these are batch norms and
activations that change their input. Both are taken out before, and the second time is left out. The third time adds
casts where an operator gets numbers of several types. It computes the shapes of all other operators' results again;
here they are taken from the first time, and that has formulas for the most frequent operators (shapes.py).
"""

import contextlib
import copy
import gc
from collections.abc import Iterator
from unittest import mock

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_weights

from zeroseg.export.shapes import by_formula

_ATEN = torch.ops.aten
_REMOVED = {_ATEN._assert_tensor_metadata.default}  # by the exporter


@torch.library.custom_op("zeroseg::clip", mutates_args=())
def _clip(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return x.clamp(low, high)


@_clip.register_fake
def _(x, low, high):
    return torch.empty_like(x)


class Clip(nn.Module):
    """nn.Hardtanh as one operator. PyTorch's own is traced through a dozen others, which takes a sixth of the time."""

    def __init__(self, low: float, high: float):
        super().__init__()
        self.low, self.high = float(low), float(high)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _clip(x, self.low, self.high)


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """The settings for torch.onnx.export: no garbage collector, since tracing makes millions of objects and looking
    through them takes a fifth of its time; no cache of operators' results, since filling it takes longer than what it
    saves; no decompositions where there is nothing to decompose; no operator is run again that gets no cast; the
    optimizer tries its rules only where they can match; no source is parsed and nothing noted that nobody reads; and
    shapes by formula.
    """
    import torch._dynamo

    decompose, enabled = ExportedProgram.run_decompositions, gc.isenabled()

    def run_decompositions(program: ExportedProgram, table=None) -> ExportedProgram:
        return decompose(program, table) if table is None or must_be_decomposed(program, table) else program

    gc.disable()
    try:
        with (
            torch._dynamo.config.patch(fake_tensor_cache_enabled=False),
            mock.patch.object(ExportedProgram, "run_decompositions", run_decompositions),
            _known_values(),
            _possible_matches(),
            _unread_translations(),
            _no_notes(),
            by_formula(_ATEN.gelu.default, torch.ops.zeroseg.clip.default),
        ):
            yield
    finally:
        if enabled:
            gc.enable()


def _known_values() -> contextlib.AbstractContextManager:
    """The pass that adds casts, without its second run of what it did not change. A PyTorch that has another pass keeps
    its own.
    """
    try:
        from torch.onnx._internal.fx.passes.type_promotion import _TypePromotionInterpreter, get_type_promotion_rule

        run_node = _TypePromotionInterpreter.run_node
    except (ImportError, AttributeError):
        return contextlib.nullcontext()

    def run_known_node(self, node):
        if node.op != "call_function" or "val" not in node.meta:
            return run_node(self, node)
        with self._set_current_node(node):
            if rule := get_type_promotion_rule(node, self.type_promotion_table):
                self._maybe_promote_node(node, rule)
        return node.meta["val"]

    return mock.patch.object(_TypePromotionInterpreter, "run_node", run_known_node)


def _possible_matches() -> contextlib.AbstractContextManager:
    """The optimizer's rules without those at a node of another operator than theirs. A rule with several outputs lists
    the whole graph at each node before it looks at the node itself. An onnxscript that matches otherwise keeps its own.
    """
    try:
        from onnxscript.rewriter._rewrite_rule import RewriteRule

        try_rewrite = RewriteRule.try_rewrite
    except (ImportError, AttributeError):
        return contextlib.nullcontext()

    def try_own(self, model, graph, node, **options):
        wanted = self._target_pattern.output_nodes[0].op_identifier()  # domain, operator, overload; None for any
        if wanted is not None and wanted[1] != node.op_type:
            return None
        return try_rewrite(self, model, graph, node, **options)

    return mock.patch.object(RewriteRule, "try_rewrite", try_own)


def _unread_translations() -> contextlib.AbstractContextManager:
    """The exporter's translations of operators to ONNX without parsing the source of each: it looks at the domain only.
    An onnxscript that describes them otherwise goes on.
    """
    try:
        from onnxscript._internal.values import TracedOnnxFunction

        return mock.patch.object(TracedOnnxFunction, "function_ir", property(lambda function: function.opset))
    except (ImportError, AttributeError):
        return contextlib.nullcontext()


def _no_notes() -> contextlib.AbstractContextManager:
    """Without what a trace notes of every operator and nobody reads: the lines of code that called it, and its result's
    strides, which take as long as its shape. A PyTorch that notes them otherwise goes on.
    """
    notes = contextlib.ExitStack()
    with contextlib.suppress(ImportError, AttributeError):
        from torch.fx.experimental import proxy_tensor

        notes.enter_context(mock.patch.object(torch.fx.config, "do_not_emit_stack_traces", True))
        notes.enter_context(mock.patch.object(proxy_tensor, "_extract_tensor_metadata", lambda value: None))
    return notes


def translations() -> dict:
    """Operator -> function that writes it in ONNX, for torch.onnx.export: those that it would decompose otherwise."""
    from onnxscript import opset18 as op

    def batch_norm(x, weight, bias, mean, variance, training: bool, momentum: float, eps: float, cudnn_enabled: bool):
        return op.BatchNormalization(x, weight, bias, mean, variance, epsilon=eps)

    def to_dtype(x, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: str = ""):
        return op.Cast(x, to=dtype)

    def to_device(x, device: str, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: str = ""):
        return op.Cast(x, to=dtype)

    def clip(x, low: float, high: float):
        return op.Clip(x, low, high)

    return {
        _ATEN.batch_norm.default: batch_norm,
        _ATEN.to.dtype: to_dtype,
        _ATEN.to.device: to_device,
        torch.ops.zeroseg.clip.default: clip,
    }


def must_be_decomposed(program: ExportedProgram, table) -> bool:
    """Whether the program calls an operator of the table, one that changes its input, a batch norm that
    BatchNormalization does not compute, or a graph inside the graph.
    """
    for node in program.graph.nodes:
        if node.op == "get_attr" or isinstance(node.target, torch._ops.HigherOrderOperator):
            return True
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or node.target in _REMOVED:
            continue
        if node.target in table or schema.is_mutable:
            return True
        if node.target is _ATEN.batch_norm.default and (node.args[5] or None in node.args[1:5]):
            return True
    return False


def prepared(network: nn.Module, image: torch.Tensor) -> nn.Module:
    """The network in evaluation mode for tracing: nothing changes its input, a batch norm that follows a convolution is
    multiplied into it, and nn.Hardtanh is Clip. A copy, or the network itself where this changes nothing.

    image: any input; a convolution and a norm belong together if the norm gets what the convolution gives.
    """
    if not any(isinstance(m, (nn.BatchNorm2d, nn.Hardtanh)) or getattr(m, "inplace", False) for m in network.modules()):
        return network
    network = copy.deepcopy(network)
    given, pairs, hooks = {}, [], []
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda conv, _, out: given.update({id(out): (conv, out)})))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and module.affine:
            hooks.append(module.register_forward_pre_hook(lambda norm, inputs: pairs.append((inputs[0], norm))))
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    folded = {norm: given[id(x)][0] for x, norm in pairs if id(x) in given}
    for norm, conv in folded.items():
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Hardtanh):
                setattr(module, name, Clip(child.min_val, child.max_val))
    for module in list(network.modules()):
        for name, child in module.named_children():
            if child in folded:  # timm's norms hold the activation
                act = nn.Sequential(getattr(child, "drop", nn.Identity()), getattr(child, "act", nn.Identity()))
                setattr(module, name, act)
    return network
