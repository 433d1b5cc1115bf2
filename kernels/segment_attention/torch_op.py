"""segment_attention as torch.library operators: torch.compile keeps them whole, autograd differentiates them once."""

import torch
from torch import Tensor

from zeroseg.kernels.segment_attention import triton_impl


@torch.library.custom_op("zeroseg::segment_attention", mutates_args=())
def forward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    normalize_keys: bool,
    soft_pooling: bool,
    eps: float,
    tau: float,
    seed: int | None,
    with_hard: bool,
    with_soft: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return triton_impl.segment_attention_fwd_triton(
        q, k, v, normalize_keys, soft_pooling, eps, seed, with_hard, with_soft
    )


@forward_op.register_fake
def _(q, k, v, normalize_keys, soft_pooling, eps, tau, seed, with_hard, with_soft):
    (B, S, _), (L, D) = q.shape, v.shape[1:]
    hard, soft = (
        q.new_empty((B, L, S) if wanted else (0,), dtype=torch.float32)
        for wanted in (with_hard, with_soft or soft_pooling)
    )
    return (
        v.new_empty((B, S, D)),
        q.new_empty((B, S), dtype=torch.float32),
        q.new_empty((B, L), dtype=torch.uint8),
        hard,
        soft,
    )


@torch.library.custom_op("zeroseg::segment_attention_backward", mutates_args=())
def backward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    choice: Tensor,
    pooled: Tensor,
    total: Tensor,
    d_pooled: Tensor | None,
    d_hard: Tensor | None,
    d_soft: Tensor | None,
    normalize_keys: bool,
    soft_pooling: bool,
    tau: float,
    seed: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    return triton_impl.segment_attention_bwd_triton(
        q, k, v, choice, pooled, total, d_pooled, d_hard, d_soft, normalize_keys, soft_pooling, tau, seed
    )


@backward_op.register_fake
def _(q, k, v, *others):
    return tuple(x.new_empty(x.shape) for x in (q, k, v))


def _setup_context(ctx, inputs, output):
    q, k, v, ctx.normalize_keys, ctx.soft_pooling, _, ctx.tau, ctx.seed, ctx.with_hard, ctx.with_soft = inputs
    pooled, total, choice, _, _ = output
    ctx.save_for_backward(q, k, v, choice, pooled, total)
    ctx.mark_non_differentiable(total, choice)
    ctx.set_materialize_grads(False)


def _backward(ctx, d_pooled, d_total, d_choice, d_hard, d_soft):
    q, k, v, choice, pooled, total = ctx.saved_tensors
    d_q, d_k, d_v = backward_op(
        q,
        k,
        v,
        choice,
        pooled,
        total,
        d_pooled,
        d_hard if ctx.with_hard else None,
        d_soft if ctx.with_soft else None,
        ctx.normalize_keys,
        ctx.soft_pooling,
        ctx.tau,
        ctx.seed,
    )
    return d_q, d_k, d_v, None, None, None, None, None, None, None


forward_op.register_autograd(_backward, setup_context=_setup_context)


def segment_attention(q, k, v, *, normalize_keys, soft_pooling, eps, tau, seed, with_hard, with_soft):
    """As reference.segment_attention, by Triton; a map that is not wanted has no elements."""
    pooled, _, choice, hard, soft = forward_op(
        q, k, v, normalize_keys, soft_pooling, eps, tau, seed, with_hard, with_soft
    )
    return pooled, choice, hard, soft
