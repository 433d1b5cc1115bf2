"""Triton kernels of segment_attention, forward: what a token decides, then what a group gathers.

Two kernels read every key and every value once and keep nothing but what is returned:

    assign  one program per block of tokens: logits over all groups in one tile, softmax, argmax
    pool    one program per image and block of value columns: loops over all tokens, so its sum has one order and
            needs no partial results

B batch, L tokens, S groups, C width of q and k, D width of v. Tiles are (tokens, groups) unless a suffix says
otherwise. Rows of q, k, v are contiguous; q, choice and maps are contiguous as a whole.
"""

import triton
import triton.language as tl


@triton.jit
def gumbel_tile(seed, image, token_L, BLOCK_L: tl.constexpr, BLOCK_S: tl.constexpr):
    """The noise of gumbel_noise.py for tokens token_L of an image, (BLOCK_L, BLOCK_S)."""
    zero = tl.zeros((BLOCK_L, BLOCK_S // 4), tl.uint32)
    quad = tl.arange(0, BLOCK_S // 4).to(tl.uint32)[None, :] + zero
    row = token_L.to(tl.uint32)[:, None] + zero
    w0, w1, w2, w3 = tl.philox(seed, quad, row, image.to(tl.uint32) + zero, zero)
    words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (BLOCK_L, BLOCK_S))  # w0 w1 w2 w3 side by side
    uniform = ((words >> 9).to(tl.int32).to(tl.float32) + 0.5) * (1.0 / 8388608)
    # log1p(-u) for small u by its series: the device's log is good to an absolute error there, and 0 would be fatal
    series = uniform * (1 + uniform * (0.5 + uniform * (1 / 3 + uniform * (0.25 + uniform * (0.2 + uniform / 6)))))
    return -tl.log(tl.where(uniform < 0.0625, series, -tl.log(1 - uniform)))


@triton.jit
def logits_tile(
    q,
    k,
    image,
    token_L,
    L,
    S,
    C,
    k_stride_b,
    k_stride_l,
    NORMALIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Logits (BLOCK_L, BLOCK_S), -inf beyond S, and one over the keys' lengths (BLOCK_L) (1 if they stay as they are).

    image is int64: products with strides need it.
    """
    group_S = tl.arange(0, BLOCK_S)
    logits = tl.zeros((BLOCK_L, BLOCK_S), tl.float32)
    square_L = tl.zeros((BLOCK_L,), tl.float32)
    for start in range(0, C, BLOCK_C):
        column_C = start + tl.arange(0, BLOCK_C)
        k_LC = tl.load(
            k + image * k_stride_b + token_L.to(tl.int64)[:, None] * k_stride_l + column_C[None, :],
            mask=(token_L < L)[:, None] & (column_C < C)[None, :],
            other=0.0,
        )
        q_SC = tl.load(
            q + (image * S + group_S)[:, None] * C + column_C[None, :],
            mask=(group_S < S)[:, None] & (column_C < C)[None, :],
            other=0.0,
        )
        logits = tl.dot(k_LC, tl.trans(q_SC), acc=logits, input_precision=PRECISION)
        if NORMALIZE:
            square_L += tl.sum(k_LC.to(tl.float32) * k_LC.to(tl.float32), axis=1)
    inverse_L = tl.full((BLOCK_L,), 1.0, tl.float32)
    if NORMALIZE:
        # a key of zeros, as every token beyond L has it, gets logits 0 and no gradient: 1 / 1e-12 overflows in float16
        inverse_L = tl.where(square_L > 0, 1 / tl.maximum(tl.sqrt(square_L), 1e-12), 0.0)
        logits = logits * inverse_L[:, None]
    return tl.where((group_S < S)[None, :], logits, float("-inf")), inverse_L


@triton.jit
def softmax_tile(logits):
    exponent = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    return exponent / tl.sum(exponent, axis=1)[:, None]


@triton.jit(do_not_specialize=["seed"])
def segment_attention_fwd_assign_kernel(
    q,
    k,
    choice,
    hard,
    soft,
    seed,
    L,
    S,
    C,
    k_stride_b,
    k_stride_l,
    NORMALIZE: tl.constexpr,
    NOISE: tl.constexpr,
    WITH_HARD: tl.constexpr,
    WITH_SOFT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    blocks = tl.cdiv(L, BLOCK_L)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    token_L = tl.program_id(0) % blocks * BLOCK_L + tl.arange(0, BLOCK_L)
    group_S = tl.arange(0, BLOCK_S)
    logits, _ = logits_tile(
        q, k, image, token_L, L, S, C, k_stride_b, k_stride_l, NORMALIZE, PRECISION, BLOCK_L, BLOCK_S, BLOCK_C
    )
    place = (image * L + token_L)[:, None] * S + group_S[None, :]
    mask = (token_L < L)[:, None] & (group_S < S)[None, :]
    if WITH_SOFT:
        tl.store(soft + place, softmax_tile(logits), mask=mask)
    if NOISE:
        logits = logits + gumbel_tile(seed, image, token_L, BLOCK_L, BLOCK_S)
    choice_L = tl.argmax(logits, axis=1)
    tl.store(choice + image * L + token_L, choice_L.to(tl.uint8), mask=token_L < L)
    if WITH_HARD:
        tl.store(hard + place, (choice_L[:, None] == group_S[None, :]).to(tl.float32), mask=mask)


@triton.jit
def segment_attention_fwd_pool_kernel(
    v,
    choice,
    soft,
    pooled,
    total,
    eps,
    L,
    S,
    D,
    v_stride_b,
    v_stride_l,
    SOFT_POOLING: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    blocks = tl.cdiv(D, BLOCK_D)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    block = tl.program_id(0) % blocks
    column_D = block * BLOCK_D + tl.arange(0, BLOCK_D)
    group_S = tl.arange(0, BLOCK_S)
    sum_SD = tl.zeros((BLOCK_S, BLOCK_D), tl.float32)
    weight_S = tl.zeros((BLOCK_S,), tl.float32)
    for start in range(0, L, BLOCK_L):
        token_L = start + tl.arange(0, BLOCK_L)
        inside_L = token_L < L
        if SOFT_POOLING:
            used = tl.load(
                soft + (image * L + token_L)[:, None] * S + group_S[None, :],
                mask=inside_L[:, None] & (group_S < S)[None, :],
                other=0.0,
            )
        else:
            choice_L = tl.load(choice + image * L + token_L, mask=inside_L, other=255).to(tl.int32)
            used = (choice_L[:, None] == group_S[None, :]).to(tl.float32)
        v_LD = tl.load(
            v + image * v_stride_b + token_L.to(tl.int64)[:, None] * v_stride_l + column_D[None, :],
            mask=inside_L[:, None] & (column_D < D)[None, :],
            other=0.0,
        )
        sum_SD = tl.dot(tl.trans(used.to(v_LD.dtype)), v_LD, acc=sum_SD, input_precision=PRECISION)
        weight_S += tl.sum(used, axis=0)
    weight_S += eps
    place_SD = (image * S + group_S)[:, None] * D + column_D[None, :]
    tl.store(
        pooled + place_SD,
        (sum_SD / weight_S[:, None]).to(pooled.dtype.element_ty),
        mask=(group_S < S)[:, None] & (column_D < D)[None, :],
    )
    if block == 0:
        tl.store(total + image * S + group_S, weight_S, mask=group_S < S)
