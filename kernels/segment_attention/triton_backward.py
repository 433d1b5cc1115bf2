"""Triton kernels of segment_attention, backward.

With dP the gradient of pooled, n_s the group's total weight (eps included) and a the map that pooled:

    da_ls = (dP_s . v_l - dP_s . pooled_s) / n_s        dv_l = sum_s a_ls dP_s / n_s
    dA    = softmax backward of da (and of the maps' own gradients), through y for the hard map, soft for the soft one
    dk_l  = sum_s dA_ls q_s                             dq_s = sum_l dA_ls k_l

    tokens   one program per block of tokens: logits again, dA, dk, dv
    queries  one program per image and block of columns: dq, again one loop over all tokens instead of partial sums

dA is the one intermediate in memory, as large as one map. Keys of unit length k / |k| add to dk the projection that
keeps them so: dk = (dk^ - k^ (k^ . dk^)) / |k|, where k^ . dk^ = sum_s dA_ls A_ls needs no second pass over the width.
"""

import triton
import triton.language as tl

from zeroseg.kernels.segment_attention.triton_forward import gumbel_tile, logits_tile, softmax_tile


@triton.jit
def softmax_backward_tile(probability, gradient):
    return probability * (gradient - tl.sum(probability * gradient, axis=1)[:, None])


@triton.jit(do_not_specialize=["seed"])
def segment_attention_bwd_tokens_kernel(
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
    seed,
    tau,
    L,
    S,
    C,
    D,
    k_stride_b,
    k_stride_l,
    v_stride_b,
    v_stride_l,
    NORMALIZE: tl.constexpr,
    NOISE: tl.constexpr,
    SOFT_POOLING: tl.constexpr,
    WITH_D_POOLED: tl.constexpr,
    WITH_D_HARD: tl.constexpr,
    WITH_D_SOFT: tl.constexpr,
    PRECISION: tl.constexpr,
    PRECISION_V: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    blocks = tl.cdiv(L, BLOCK_L)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    token_L = tl.program_id(0) % blocks * BLOCK_L + tl.arange(0, BLOCK_L)
    group_S = tl.arange(0, BLOCK_S)
    inside_L, inside_S = token_L < L, group_S < S
    place = (image * L + token_L)[:, None] * S + group_S[None, :]
    mask = inside_L[:, None] & inside_S[None, :]

    logits, inverse_L = logits_tile(
        q, k, image, token_L, L, S, C, k_stride_b, k_stride_l, NORMALIZE, PRECISION, BLOCK_L, BLOCK_S, BLOCK_C
    )
    soft = softmax_tile(logits)
    noisy = soft
    if NOISE:
        noisy = softmax_tile((logits + gumbel_tile(seed, image, token_L, BLOCK_L, BLOCK_S)) / tau)
    if SOFT_POOLING:
        used = soft
    else:
        choice_L = tl.load(choice + image * L + token_L, mask=inside_L, other=0).to(tl.int32)
        used = (choice_L[:, None] == group_S[None, :]).to(tl.float32)

    d_noisy = tl.zeros((BLOCK_L, BLOCK_S), tl.float32)
    d_plain = tl.zeros((BLOCK_L, BLOCK_S), tl.float32)
    if WITH_D_HARD:
        d_noisy += tl.load(d_hard + place, mask=mask, other=0.0)
    if WITH_D_SOFT:
        d_plain += tl.load(d_soft + place, mask=mask, other=0.0)
    if WITH_D_POOLED:
        per_weight_S = 1 / tl.load(total + image * S + group_S, mask=inside_S, other=1.0)
        d_used = tl.zeros((BLOCK_L, BLOCK_S), tl.float32)
        self_S = tl.zeros((BLOCK_S,), tl.float32)
        for start in range(0, D, BLOCK_C):
            column_D = start + tl.arange(0, BLOCK_C)
            mask_SD = inside_S[:, None] & (column_D < D)[None, :]
            mask_LD = inside_L[:, None] & (column_D < D)[None, :]
            place_SD = (image * S + group_S)[:, None] * D + column_D[None, :]
            v_LD = tl.load(
                v + image * v_stride_b + token_L.to(tl.int64)[:, None] * v_stride_l + column_D[None, :],
                mask=mask_LD,
                other=0.0,
            )
            d_pooled_SD = tl.load(d_pooled + place_SD, mask=mask_SD, other=0.0)
            pooled_SD = tl.load(pooled + place_SD, mask=mask_SD, other=0.0)
            d_used = tl.dot(v_LD, tl.trans(d_pooled_SD), acc=d_used, input_precision=PRECISION_V)
            self_S += tl.sum(d_pooled_SD.to(tl.float32) * pooled_SD.to(tl.float32), axis=1)
            weight = (used * per_weight_S[None, :]).to(d_pooled_SD.dtype)
            d_v_LD = tl.dot(weight, d_pooled_SD, input_precision=PRECISION_V)
            tl.store(
                d_v + (image * L + token_L)[:, None] * D + column_D[None, :],
                d_v_LD.to(d_v.dtype.element_ty),
                mask=mask_LD,
            )
        d_used = (d_used - self_S[None, :]) * per_weight_S[None, :]
        if SOFT_POOLING:
            d_plain += d_used
        else:
            d_noisy += d_used
    d_tile = softmax_backward_tile(soft, d_plain)
    if NOISE:
        d_tile += softmax_backward_tile(noisy, d_noisy) / tau
    else:
        d_tile += softmax_backward_tile(soft, d_noisy)

    d_raw = d_tile * inverse_L[:, None]  # of the product with k as it is stored
    tl.store(d_logits + place, d_raw.to(d_logits.dtype.element_ty), mask=mask)
    if NORMALIZE:
        along_L = tl.sum(d_tile * tl.where(inside_S[None, :], logits, 0.0), axis=1) * inverse_L * inverse_L
    for start in range(0, C, BLOCK_C):
        column_C = start + tl.arange(0, BLOCK_C)
        mask_LC = inside_L[:, None] & (column_C < C)[None, :]
        q_SC = tl.load(
            q + (image * S + group_S)[:, None] * C + column_C[None, :],
            mask=inside_S[:, None] & (column_C < C)[None, :],
            other=0.0,
        )
        d_k_LC = tl.dot(d_raw.to(q_SC.dtype), q_SC, input_precision=PRECISION)
        if NORMALIZE:
            k_LC = tl.load(
                k + image * k_stride_b + token_L.to(tl.int64)[:, None] * k_stride_l + column_C[None, :],
                mask=mask_LC,
                other=0.0,
            )
            d_k_LC -= along_L[:, None] * k_LC.to(tl.float32)
        tl.store(
            d_k + (image * L + token_L)[:, None] * C + column_C[None, :], d_k_LC.to(d_k.dtype.element_ty), mask=mask_LC
        )


@triton.jit
def segment_attention_bwd_queries_kernel(
    k,
    d_logits,
    d_q,
    L,
    S,
    C,
    k_stride_b,
    k_stride_l,
    PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    blocks = tl.cdiv(C, BLOCK_C)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    column_C = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    group_S = tl.arange(0, BLOCK_S)
    d_q_SC = tl.zeros((BLOCK_S, BLOCK_C), tl.float32)
    for start in range(0, L, BLOCK_L):
        token_L = start + tl.arange(0, BLOCK_L)
        d_raw = tl.load(
            d_logits + (image * L + token_L)[:, None] * S + group_S[None, :],
            mask=(token_L < L)[:, None] & (group_S < S)[None, :],
            other=0.0,
        )
        k_LC = tl.load(
            k + image * k_stride_b + token_L.to(tl.int64)[:, None] * k_stride_l + column_C[None, :],
            mask=(token_L < L)[:, None] & (column_C < C)[None, :],
            other=0.0,
        )
        d_q_SC = tl.dot(tl.trans(d_raw), k_LC, acc=d_q_SC, input_precision=PRECISION)
    tl.store(
        d_q + (image * S + group_S)[:, None] * C + column_C[None, :],
        d_q_SC.to(d_q.dtype.element_ty),
        mask=(group_S < S)[:, None] & (column_C < C)[None, :],
    )
