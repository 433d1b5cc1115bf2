"""Tracing without needless steps: the same numbers, and the steps where they are needed."""

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from zeroseg.export import tracing  # noqa: E402


class Net(nn.Module):
    """A norm before a convolution and one behind it, an activation that changes its input, and casts."""

    def __init__(self):
        super().__init__()
        self.before, self.conv, self.after = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.act = nn.Hardtanh(inplace=True)
        for norm in (self.before, self.after):
            for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
                value.copy_(torch.rand_like(value) + 0.5)

    def forward(self, x):
        return self.act(self.after(self.conv(self.before(x)))).double().float().double().to(x.device, torch.float32)


class Changing(Net):
    def forward(self, x):
        return super().forward(x).add_(1)


class Mixing(Net):
    """Integers times float32: the exporter must add casts."""

    def forward(self, x):
        return super().forward(x) * torch.arange(x.shape[3] - 2) + 1


@pytest.mark.parametrize(("make", "times"), [(Net, 0), (Changing, 1), (Mixing, 0)])
def test_decompositions_run_where_something_needs_them(monkeypatch, make, times):
    import onnxruntime

    network, image = make().eval(), torch.randn(2, 3, 8, 9)
    calls, decompose = [], torch.export.ExportedProgram.run_decompositions
    counted = lambda program, table: calls.append(1) or decompose(program, table)  # noqa: E731
    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", counted)
    with torch.no_grad(), tracing.quickly():
        program = torch.onnx.export(
            tracing.prepared(network, image), (image,), dynamo=True, opset_version=18, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            custom_translation_table=tracing.translations(),
        )  # fmt: skip
    assert len(calls) == times
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    [name] = [value.name for value in session.get_inputs()]
    for batch in (1, 3):
        image = torch.randn(batch, 3, 8, 9)
        [got] = session.run(None, {name: image.numpy()})
        np.testing.assert_allclose(got, network(image).detach().numpy(), atol=1e-5)


def test_only_operators_that_get_casts_are_run_again(monkeypatch):
    from torch.onnx._internal.fx.passes.type_promotion import _TypePromotionInterpreter

    again, call = [], _TypePromotionInterpreter.call_function
    monkeypatch.setattr(
        _TypePromotionInterpreter, "call_function", lambda self, *given: again.append(given[0]) or call(self, *given)
    )
    image = torch.randn(2, 3, 8, 9)
    with torch.no_grad(), tracing.quickly():
        torch.onnx.export(
            tracing.prepared(Mixing().eval(), image), (image,), dynamo=True, opset_version=18, verbose=False,
            custom_translation_table=tracing.translations(),
        )  # fmt: skip
    cast = ["prims.convert_element_type.default", "aten.mul.Tensor", "aten.scalar_tensor.default", "aten.add.Tensor"]
    assert [str(operator) for operator in again] == cast


def test_norms_behind_convolutions_are_multiplied_into_a_copy():
    network, image = Net().eval(), torch.randn(2, 3, 8, 9)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    copy = tracing.prepared(network, image)
    assert [name for name, module in copy.named_modules() if isinstance(module, nn.BatchNorm2d)] == ["before"]
    assert isinstance(copy.act, tracing.Clip) and isinstance(network.act, nn.Hardtanh) and network.act.inplace
    torch.testing.assert_close(copy(image), network(image), atol=1e-6, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_without_norms_is_not_copied():
    network = nn.Sequential(nn.Linear(3, 4), nn.GELU()).eval()
    assert tracing.prepared(network, torch.zeros(1, 3)) is network


def test_the_collector_is_as_before():
    import gc

    assert gc.isenabled()
    with pytest.raises(KeyError), tracing.quickly():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_optimizer_tries_a_rule_only_at_its_operator_and_finds_the_same(monkeypatch):
    from onnxscript.rewriter._matcher import SimplePatternMatcher

    tries, match = [], SimplePatternMatcher.match

    def counted(self, model, graph, node, **options):
        wanted = self.pattern.output_nodes[0].op_identifier()
        found = match(self, model, graph, node, **options)
        tries.append((wanted is None or wanted[1] == node.op_type, bool(found)))
        return found

    class Twice(nn.Module):
        def forward(self, x):
            return x.reshape(2, -1).reshape(3, -1).transpose(0, 1).transpose(0, 1) * 1 + 1

    def exported():
        tries.clear()
        program = torch.onnx.export(
            Twice().eval(), (torch.randn(2, 3, 4),), dynamo=True, opset_version=18, verbose=False
        )  # fmt: skip
        return [node.op_type for node in program.model_proto.graph.node], sum(found for _, found in tries)

    monkeypatch.setattr(SimplePatternMatcher, "match", counted)
    plain = exported()
    with tracing.quickly():
        assert exported() == plain and plain[1] > 0
    assert all(own for own, _ in tries)
