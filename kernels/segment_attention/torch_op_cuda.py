"""segment_attention by the CUDA library as the operator zeroseg::segment_attention_cuda; it has no gradient."""

import torch
from torch import Tensor

from zeroseg.kernels.segment_attention.cuda_impl import segment_attention_cuda


@torch.library.custom_op("zeroseg::segment_attention_cuda", mutates_args=())
def forward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    normalize_keys: bool,
    soft_pooling: bool,
    eps: float,
    seed: int | None,
    with_hard: bool,
    with_soft: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pooled, choice, *maps = segment_attention_cuda(
        q,
        k,
        v,
        normalize_keys=normalize_keys,
        soft_pooling=soft_pooling,
        eps=eps,
        tau=1.0,
        seed=seed,
        with_hard=with_hard,
        with_soft=with_soft,
    )
    hard, soft = (q.new_empty(0, dtype=torch.float32) if x is None else x for x in maps)
    return pooled, choice, hard, soft


@forward_op.register_fake
def _(q, k, v, normalize_keys, soft_pooling, eps, seed, with_hard, with_soft):
    (B, S, _), (L, D) = q.shape, v.shape[1:]
    hard, soft = (q.new_empty((B, L, S) if wanted else (0,), dtype=torch.float32) for wanted in (with_hard, with_soft))
    return v.new_empty((B, S, D)), q.new_empty((B, L), dtype=torch.uint8), hard, soft


def segment_attention(q, k, v, *, normalize_keys, soft_pooling, eps, tau, seed, with_hard, with_soft):
    """As reference.segment_attention, forward; a map that is not wanted has no elements. tau matters to gradients."""
    return forward_op(q, k, v, normalize_keys, soft_pooling, eps, seed, with_hard, with_soft)
