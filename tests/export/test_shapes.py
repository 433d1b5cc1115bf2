"""Shapes by formula in a trace: those that PyTorch gives, and the same graph."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from zeroseg.export import shapes, tracing  # noqa: E402

CONV = {"stride": [2, 3], "padding": [1, 0], "dilation": [1, 2]}


@pytest.mark.parametrize(
    ("formula", "operator", "given", "options"),
    [
        (shapes.conv2d, F.conv2d, [(2, 3, 17, 20), (4, 3, 3, 3), (4,)], {}),
        (shapes.conv2d, F.conv2d, [(2, 6, 17, 20), (4, 3, 3, 5)], CONV | {"groups": 2}),
        (shapes.conv2d, F.conv2d, [(3, 8, 9), (4, 3, 2, 2)], {"stride": [2], "padding": [1]}),
        (shapes.linear, F.linear, [(2, 5, 3), (7, 3), (7,)], {}),
        (shapes.linear, F.linear, [(3,), (7, 3)], {}),
        (shapes.matmul, torch.matmul, [(4, 1, 2, 3), (5, 3, 7)], {}),
        (shapes.matmul, torch.matmul, [(2, 3), (6, 1, 3, 7)], {}),
        (shapes.matmul, torch.matmul, [(5, 2, 3), (3,)], {}),
        (shapes.matmul, torch.matmul, [(3,), (5, 3, 2)], {}),
        (shapes.matmul, torch.matmul, [(3,), (3,)], {}),
        (shapes.layer_norm, F.layer_norm, [(2, 4, 3), (3,)], {}),
    ],
)
def test_shapes_are_those_of_pytorch(formula, operator, given, options):
    tensors = [torch.randn(shape) for shape in given]
    if operator is F.layer_norm:
        tensors = [tensors[0], given[1]]
    assert formula(*given, **options) == tuple(operator(*tensors, **options).shape)


class Net(nn.Module):
    """Every operator that has a formula, with a free batch and sides."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Hardtanh()
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, image):
        x = self.act(self.conv(image)).flatten(2).transpose(1, 2)
        x = F.gelu(self.norm(x))
        return self.out((x @ x.transpose(1, 2)).softmax(-1) @ x + x), x @ x[0, 0]


def test_the_graph_is_the_same(monkeypatch):
    def exported():
        sides = {0: torch.export.Dim("batch", min=1, max=64), 2: 2 * torch.export.Dim("rows", min=1, max=64)}
        with torch.no_grad(), tracing.quickly():
            program = torch.onnx.export(
                tracing.prepared(network, torch.zeros(1, 3, 8, 8)), (torch.zeros(2, 3, 12, 10),), dynamo=True,
                opset_version=18, verbose=False, dynamic_shapes=(sides,),
                custom_translation_table=tracing.translations(),
            )  # fmt: skip
        graph = program.model_proto.graph
        for node in graph.node:
            del node.metadata_props[:]  # says where in the code the operator stands
        return [node.SerializeToString() for node in graph.node], [v.SerializeToString() for v in graph.output]

    network, used = Net().eval(), set()
    for operator, shape_of in shapes._FORMULAS.items():
        counted = lambda *given, f=shape_of, **options: used.add(f) or f(*given, **options)  # noqa: E731
        monkeypatch.setitem(shapes._FORMULAS, operator, counted)
    quick = exported()
    assert used == {shapes.conv2d, shapes.layer_norm, shapes.linear, shapes.matmul}
    monkeypatch.setattr(tracing, "by_formula", lambda *same: contextlib.nullcontext())
    assert quick == exported()


def test_the_rules_are_as_before():
    from torch._subclasses.fake_impls import get_fast_op_impls

    operators = [*shapes._FORMULAS, torch.ops.aten.gelu.default]
    before = [dict(operator.py_kernels) for operator in operators], dict(get_fast_op_impls())
    with pytest.raises(KeyError), shapes.by_formula(torch.ops.aten.gelu.default):
        assert get_fast_op_impls() != before[1]
        raise KeyError
    assert ([dict(operator.py_kernels) for operator in operators], dict(get_fast_op_impls())) == before
