"""Launches the Triton kernels of segment_attention: sizes of blocks, memory for the outputs, arguments."""

from dataclasses import dataclass

import torch
import triton

from zeroseg.kernels.segment_attention import triton_backward, triton_forward


@dataclass(frozen=True)
class Launch:
    """Sizes of one launch: tokens and columns per block, groups rounded up, warps, pipeline stages."""

    BLOCK_L: int
    BLOCK_S: int
    BLOCK_C: int
    num_warps: int
    num_stages: int


def choose_launch(groups: int, dtype: torch.dtype, backward: bool = False) -> Launch:
    """The launch for S groups and inputs of a dtype.

    Chosen so that the tiles fit the 64 KiB of shared memory of sm_75; not yet timed on any GPU.
    """
    half = dtype != torch.float32
    return Launch(
        BLOCK_L=64 if half and not backward else 32,
        BLOCK_S=max(16, triton.next_power_of_2(groups)),
        BLOCK_C=64 if half else 32,
        num_warps=4,
        num_stages=2,
    )


def precision(dtype: torch.dtype) -> str:
    """float32 products are exact (no TF32): two groups whose logits nearly tie must not swap. No matter for halves."""
    return "ieee" if dtype == torch.float32 else "tf32"


def segment_attention_fwd_triton(q, k, v, normalize_keys, soft_pooling, eps, seed, with_hard, with_soft):
    """Scaled q (B, S, C), k (B, L, C), v (B, L, D) -> pooled (B, S, D), total (B, S), choice (B, L), hard, soft.

    total is every group's weight, eps included. A map that is not wanted has no elements.
    """
    (B, S, C), (L, D) = q.shape, v.shape[1:]
    q, k, v = q.contiguous(), rows_contiguous(k), rows_contiguous(v)
    with_soft = with_soft or soft_pooling
    pooled = torch.empty((B, S, D), dtype=v.dtype, device=q.device)
    total = torch.empty((B, S), dtype=torch.float32, device=q.device)
    choice = torch.empty((B, L), dtype=torch.uint8, device=q.device)
    hard, soft = (
        torch.empty((B, L, S) if wanted else (0,), dtype=torch.float32, device=q.device)
        for wanted in (with_hard, with_soft)
    )
    launch = choose_launch(S, q.dtype)
    triton_forward.segment_attention_fwd_assign_kernel[B * triton.cdiv(L, launch.BLOCK_L),](
        q,
        k,
        choice,
        hard,
        soft,
        seed or 0,
        L,
        S,
        C,
        k.stride(0),
        k.stride(1),
        NORMALIZE=normalize_keys,
        NOISE=seed is not None,
        WITH_HARD=with_hard,
        WITH_SOFT=with_soft,
        PRECISION=precision(q.dtype),
        **vars(launch),
    )
    launch = vars(choose_launch(S, v.dtype))
    block = launch.pop("BLOCK_C")
    triton_forward.segment_attention_fwd_pool_kernel[B * triton.cdiv(D, block),](
        v,
        choice,
        soft,
        pooled,
        total,
        eps,
        L,
        S,
        D,
        v.stride(0),
        v.stride(1),
        SOFT_POOLING=soft_pooling,
        PRECISION=precision(v.dtype),
        BLOCK_D=block,
        **launch,
    )
    return pooled, total, choice, hard, soft


def segment_attention_bwd_triton(
    q, k, v, choice, pooled, total, d_pooled, d_hard, d_soft, normalize_keys, soft_pooling, tau, seed
):
    """Gradients (d_q, d_k, d_v) in the inputs' dtypes; a gradient of an output that is None counts as zero."""
    (B, S, C), (L, D) = q.shape, v.shape[1:]
    q, k, v = q.contiguous(), rows_contiguous(k), rows_contiguous(v)
    d_q, d_k = torch.empty_like(q), torch.empty((B, L, C), dtype=k.dtype, device=k.device)
    d_v = (torch.zeros if d_pooled is None else torch.empty)((B, L, D), dtype=v.dtype, device=v.device)
    d_logits = torch.empty((B, L, S), dtype=q.dtype, device=q.device)
    given = {
        "WITH_D_POOLED": d_pooled is not None,
        "WITH_D_HARD": d_hard is not None,
        "WITH_D_SOFT": d_soft is not None,
    }
    d_pooled, d_hard, d_soft = (pooled if d is None else d.contiguous() for d in (d_pooled, d_hard, d_soft))
    launch = choose_launch(S, torch.float32 if torch.float32 in (q.dtype, v.dtype) else q.dtype, backward=True)
    triton_backward.segment_attention_bwd_tokens_kernel[B * triton.cdiv(L, launch.BLOCK_L),](
        q,
        k,
        v,
        choice,
        pooled,
        total,
        d_pooled,
        d_hard,
        d_soft,
        d_logits,
        d_k,
        d_v,
        seed or 0,
        tau,
        L,
        S,
        C,
        D,
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        NORMALIZE=normalize_keys,
        NOISE=seed is not None,
        SOFT_POOLING=soft_pooling,
        **given,
        PRECISION=precision(q.dtype),
        PRECISION_V=precision(v.dtype),
        **vars(launch),
    )
    launch = choose_launch(S, q.dtype, backward=True)
    triton_backward.segment_attention_bwd_queries_kernel[B * triton.cdiv(C, launch.BLOCK_C),](
        k, d_logits, d_q, L, S, C, k.stride(0), k.stride(1), PRECISION=precision(q.dtype), **vars(launch)
    )
    return d_q, d_k, d_v


def rows_contiguous(x: torch.Tensor) -> torch.Tensor:
    """x (B, L, C) itself where its last axis is contiguous, else a copy."""
    return x if x.stride(2) == 1 else x.contiguous()
