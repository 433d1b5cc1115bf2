"""segment_attention by the CUDA library, forward only: memory for the outputs, arguments, the call."""

import torch

from zeroseg.kernels._cuda import TYPES, SegmentAttentionArgs, call, segment_attention_workspace


def segment_attention_cuda(q, k, v, *, normalize_keys, soft_pooling, eps, tau, seed, with_hard, with_soft):
    """Scaled q (B, S, C), k (B, L, C), v (B, L, D) -> pooled (B, S, D), choice (B, L), hard and soft (B, L, S).

    A map that is not wanted is None. tau matters to gradients only.
    """
    (B, S, C), (L, D) = q.shape, v.shape[1:]
    q, k, v = q.contiguous(), _rows_contiguous(k), _rows_contiguous(v)
    pooled = torch.empty((B, S, D), dtype=v.dtype, device=q.device)
    choice = torch.empty((B, L), dtype=torch.uint8, device=q.device)
    hard, soft = (
        torch.empty((B, L, S), dtype=torch.float32, device=q.device) if wanted else None
        for wanted in (with_hard, with_soft)
    )
    args = SegmentAttentionArgs(
        q=q.data_ptr(),
        k=k.data_ptr(),
        v=v.data_ptr(),
        k_stride_b=k.stride(0),
        k_stride_l=k.stride(1),
        v_stride_b=v.stride(0),
        v_stride_l=v.stride(1),
        batch=B,
        tokens=L,
        groups=S,
        width=C,
        value_width=D,
        qk_type=_type(q),
        v_type=_type(v),
        normalize_keys=normalize_keys,
        soft_pooling=soft_pooling,
        noise=seed is not None,
        seed=seed or 0,
        scale=1,
        eps=eps,
        pooled=pooled.data_ptr(),
        choice=choice.data_ptr(),
        hard=hard.data_ptr() if with_hard else None,
        soft=soft.data_ptr() if with_soft else None,
    )
    needed = segment_attention_workspace(args)
    # torch keeps freed memory for later work of the same stream, so it may go when this returns
    workspace = torch.empty(needed, dtype=torch.uint8, device=q.device)
    call("zs_cuda_segment_attention", q.device, args, workspace.data_ptr() if needed else None, needed)
    return pooled, choice, hard, soft


def _type(x: torch.Tensor) -> int:
    return TYPES[str(x.dtype).removeprefix("torch.")]


def _rows_contiguous(x: torch.Tensor) -> torch.Tensor:
    """x (B, L, C) itself where its last axis is contiguous, else a copy."""
    return x if x.stride(2) == 1 else x.contiguous()
