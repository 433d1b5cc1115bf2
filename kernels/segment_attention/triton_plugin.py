"""segment_attention's kernels with the parameters that a TensorRT plugin can give: inputs, int32 sizes, outputs.

Everything is contiguous, and what is neither a tensor nor a size is fixed when the kernel is compiled. TensorRT has no
8-bit unsigned tensors between layers, so choices are int32. Queries come scaled, keys normalised where they are to be.
"""

import triton
import triton.language as tl

from zeroseg.kernels.segment_attention.triton_forward import (
    segment_attention_fwd_assign_kernel,
    segment_attention_fwd_pool_kernel,
)


@triton.jit
def segment_attention_assign_plugin_kernel(
    q,
    k,
    L,
    S,
    C,
    soft,
    choice,
    PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """q (B, S, C), k (B, L, C) -> soft (B, L, S), choice (B, L) int32."""
    segment_attention_fwd_assign_kernel(
        q,
        k,
        choice,
        soft,
        soft,
        0,
        L,
        S,
        C,
        tl.to_tensor(L).to(tl.int64) * C,
        C,
        False,
        False,
        False,
        True,
        PRECISION,
        BLOCK_L,
        BLOCK_S,
        BLOCK_C,
    )


@triton.jit
def segment_attention_pool_plugin_kernel(
    v,
    used,
    L,
    S,
    D,
    pooled,
    total,
    EPS: tl.constexpr,
    SOFT_POOLING: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """v (B, L, D), used the choice (B, L) int32 or soft (B, L, S) -> pooled (B, S, D), total (B, S)."""
    segment_attention_fwd_pool_kernel(
        v,
        used,
        used,
        pooled,
        total,
        EPS,
        L,
        S,
        D,
        tl.to_tensor(L).to(tl.int64) * D,
        D,
        SOFT_POOLING,
        PRECISION,
        BLOCK_L,
        BLOCK_S,
        BLOCK_D,
    )
