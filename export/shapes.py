"""Shapes of operators' results by formula, for tracing.

PyTorch finds a result's shape in a trace by running the operator's decomposition on tensors without values. With
symbols for sizes that takes 15 to 50 ms for the operators here, which are most of a network; a formula takes 4 ms.
Every result is taken for contiguous: the exporter does not look at strides.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch

_ATEN = torch.ops.aten
_DECOMPOSITION = torch._C.DispatchKey.CompositeImplicitAutograd


def conv2d(x, weight, bias=None, stride=(1,), padding=(0,), dilation=(1,), groups=1) -> tuple:
    """The shapes of torch.conv2d's tensors, and its options -> its result's shape. The others likewise."""
    sides = []
    for i in range(2):
        span = dilation[i % len(dilation)] * (weight[i - 2] - 1) + 1
        sides.append((x[i - 2] + 2 * padding[i % len(padding)] - span) // stride[i % len(stride)] + 1)
    return *x[:-3], weight[0], *sides


def linear(x, weight, bias=None) -> tuple:
    return *x[:-1], weight[0]


def matmul(a, b) -> tuple:
    count = max(len(a), len(b), 2) - 2  # axes of the batch
    left, right = ((1,) * (count - len(shape[:-2])) + tuple(shape[:-2]) for shape in (a, b))
    # a symbol is never compared: that would become a condition of the graph
    batch = (n if isinstance(m, int) and m == 1 else m for m, n in zip(left, right))
    return *batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ())


def layer_norm(x, *_) -> tuple:
    return tuple(x)


_FORMULAS = {
    _ATEN.conv2d.default: conv2d,
    _ATEN.layer_norm.default: layer_norm,
    _ATEN.linear.default: linear,
    _ATEN.matmul.default: matmul,
}


@contextlib.contextmanager
def by_formula(*same: torch._ops.OpOverload) -> Iterator[None]:
    """Let traces in this block take shapes from the formulas. A PyTorch that finds them otherwise keeps its own way.

    same: operators whose result has the shape and type of their first argument.
    """
    try:
        from torch._subclasses.fake_impls import get_fast_op_impls

        rules = [(operator.py_kernels, operator._dispatch_cache, shape_of) for operator, shape_of in _FORMULAS.items()]
    except (ImportError, AttributeError):
        yield
        return

    def rule(shape_of):
        def run(x, *others, **options):
            return x.new_empty(shape_of(*(getattr(value, "shape", value) for value in (x, *others)), **options))

        return run

    def like(mode, x, *others, **options):
        with mode:
            return torch.empty_like(x, memory_format=torch.contiguous_format)

    with contextlib.ExitStack() as stack:
        for kernels, cache, shape_of in rules:
            stack.callback(cache.clear)
            stack.enter_context(mock.patch.dict(kernels, {_DECOMPOSITION: rule(shape_of)}))
            cache.clear()
        stack.enter_context(mock.patch.dict(get_fast_op_impls(), dict.fromkeys(same, like)))
        yield
