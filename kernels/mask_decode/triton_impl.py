"""mask_decode by Triton: all pixels between two rows of the maps share what is read.

The rows of the photo whose centres lie between the centres of rows j and j + 1 of the maps form interval j. A program
takes up to BLOCK_H rows of one interval and BLOCK_W columns; for every segment it reads its columns of the two rows
once and blends them for all its pixels, keeping the best value and label so far. Every output is written once.

B images, K segments (or labels), maps (h, w), photo (H, W). Places are exact in integers: ((2 y + 1) h - H) / 2 H.
"""

import torch
import triton
import triton.language as tl

from zeroseg.kernels._triton import Launch

LAUNCH = Launch(BLOCK_H=16, BLOCK_W=128, num_warps=4)  # not yet timed on any GPU
DTYPES = {"int16": torch.int16, "uint8": torch.uint8, "uint16": torch.uint16}


@triton.jit
def source_place(target, source_size, target_size):
    """Lower of the two source places around a target place and the weight of the upper one; edges clamped."""
    numerator = (2 * target + 1) * source_size - target_size
    numerator = tl.minimum(tl.maximum(numerator, 0), 2 * target_size * (source_size - 1))
    low = tl.minimum(numerator // (2 * target_size), tl.maximum(source_size - 2, 0))
    return low, (numerator - low * 2 * target_size).to(tl.float32) / (2 * target_size).to(tl.float32)


@triton.jit
def mask_decode_kernel(
    maps,
    table,
    labels,
    confidence,
    image,
    colors,
    picture,
    threshold,
    alpha,
    color_count,
    K,
    h,
    w,
    H,
    W,
    map_stride_b,
    map_stride_k,
    map_stride_h,
    map_stride_w,
    WITH_TABLE: tl.constexpr,
    WITH_OVERLAY: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    h, w, H, W = tl.to_tensor(h), tl.to_tensor(w), tl.to_tensor(H), tl.to_tensor(W)
    column_blocks = tl.cdiv(W, BLOCK_W)
    intervals = tl.maximum(h - 1, 1)
    longest = tl.where(h > 2, (3 * H + 2 * h - 1) // (2 * h) + 1, H)  # as in row_blocks
    row_blocks = tl.cdiv(longest, BLOCK_H)
    program = tl.program_id(0)
    x = program % column_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    program = program // column_blocks
    row_block = program % row_blocks
    program = program // row_blocks
    interval = program % intervals
    photo = (program // intervals).to(tl.int64)

    # the first row of the interval; the first and the last interval also have the rows beyond the outermost centres
    first = tl.where(interval == 0, 0, ((2 * interval + 1) * H - h + 2 * h - 1) // (2 * h))
    y = first + row_block * BLOCK_H + tl.arange(0, BLOCK_H)
    row_low, row_weight = source_place(y, h, H)
    inside_H = (y < H) & (row_low == interval)
    column_low, column_weight = source_place(tl.minimum(x, W - 1), w, W)
    column_high = tl.minimum(column_low + 1, w - 1)
    row_high = tl.minimum(interval + 1, h - 1)

    best = tl.full((BLOCK_H, BLOCK_W), float("-inf"), tl.float32)
    label = tl.zeros((BLOCK_H, BLOCK_W), tl.int32)
    if WITH_TABLE:
        label += tl.load(table + photo * K)
    for k in range(0, K):
        upper = maps + photo * map_stride_b + k * map_stride_k + interval * map_stride_h
        lower = maps + photo * map_stride_b + k * map_stride_k + row_high * map_stride_h
        upper_W = (
            tl.load(upper + column_low * map_stride_w) * (1 - column_weight)
            + tl.load(upper + column_high * map_stride_w) * column_weight
        )
        lower_W = (
            tl.load(lower + column_low * map_stride_w) * (1 - column_weight)
            + tl.load(lower + column_high * map_stride_w) * column_weight
        )
        value = upper_W[None, :] * (1 - row_weight[:, None]) + lower_W[None, :] * row_weight[:, None]
        here = k
        if WITH_TABLE:
            here = tl.load(table + photo * K + k)
        label = tl.where(value > best, here, label)  # the lowest k wins a tie
        best = tl.maximum(best, value)
    label = tl.where(best < threshold, -1, label)

    mask = inside_H[:, None] & (x < W)[None, :]
    place = (photo * H + y[:, None]) * W + x[None, :]
    tl.store(labels + place, label.to(labels.dtype.element_ty), mask=mask)
    tl.store(confidence + place, best, mask=mask)
    if WITH_OVERLAY:
        tinted = (label >= 0) & (label < color_count)
        for channel in tl.static_range(3):
            before = tl.load(image + place * 3 + channel, mask=mask, other=0).to(tl.int32)
            color = tl.load(colors + label * 3 + channel, mask=mask & tinted, other=0).to(tl.int32)
            after = tl.where(tinted, (before * (255 - alpha) + color * alpha + 127) // 255, before)
            tl.store(picture + place * 3 + channel, after.to(tl.uint8), mask=mask)


def row_blocks(rows: int, height: int, block: int) -> int:
    """Blocks that hold the rows of the longest interval: the first and the last have half as many more."""
    longest = (3 * height + 2 * rows - 1) // (2 * rows) + 1 if rows > 2 else height
    return triton.cdiv(longest, block)


def mask_decode_triton(maps, table, size, label_dtype="int16", threshold=float("-inf"), overlay=None):
    """maps (B, K, h, w) float32, table (B, K) int32 or None for labels 0 ... K - 1, overlay with image (B, H, W, 3),
    colors (N, 3) and alpha_255, or None; all on one device.

    Returns labels (B, H, W), confidence (B, H, W) float32 and, with an overlay, the picture (B, H, W, 3) uint8.
    """
    (B, K, h, w), (H, W) = maps.shape, size
    if max(h * H, w * W) >= 2**28:
        raise ValueError(f"size: maps and photo are too large for 32-bit indices, got {(h, w)} and {(H, W)}")
    labels = torch.empty((B, H, W), dtype=DTYPES[label_dtype], device=maps.device)
    confidence = torch.empty((B, H, W), dtype=torch.float32, device=maps.device)
    image, colors, picture, alpha, color_count = maps, maps, maps, 0, 0
    if overlay is not None:
        image, colors, alpha = overlay.image.contiguous(), overlay.colors.contiguous(), overlay.alpha_255
        picture, color_count = torch.empty_like(image), len(colors)
    programs = B * max(h - 1, 1) * row_blocks(h, H, LAUNCH.BLOCK_H) * triton.cdiv(W, LAUNCH.BLOCK_W)
    mask_decode_kernel[programs,](
        maps,
        maps if table is None else table.contiguous(),
        labels,
        confidence,
        image,
        colors,
        picture,
        threshold,
        alpha,
        color_count,
        K,
        h,
        w,
        H,
        W,
        *maps.stride(),
        WITH_TABLE=table is not None,
        WITH_OVERLAY=overlay is not None,
        **vars(LAUNCH),
    )
    return (labels, confidence) if overlay is None else (labels, confidence, picture)
