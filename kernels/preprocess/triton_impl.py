"""preprocess by Triton: every program makes one tile of the input, all three channels, in one pass.

The triangle filter of Pillow's bilinear resize, widened by the scale when it shrinks: output place x covers source
places around (x + 1/2) scale within max(scale, 1), weights 1 - distance / max(scale, 1), normalised where the edge cuts
them. Unlike Pillow nothing is rounded to uint8 in between, which moves a value by at most one grey level.

B images, photo (H, W), input (h, w).
"""

import torch
import triton
import triton.language as tl

from zeroseg.kernels._triton import Launch

LAUNCH = Launch(BLOCK_H=8, BLOCK_W=64, num_warps=4)  # not yet timed on any GPU


@triton.jit
def filter_span(target, source_size, target_size):
    """Of output places: the centre's whole and broken part, half width of the filter, first source place, weights' sum.

    The centre (x + 1/2) scale is taken in integers: in float32 it would be off by 1e-4 of a place at 2000.
    """
    numerator = (2 * target + 1) * source_size
    whole = numerator // (2 * target_size)
    broken = (numerator - whole * 2 * target_size).to(tl.float32) / (2 * target_size).to(tl.float32)
    support = tl.maximum(source_size.to(tl.float32) / target_size.to(tl.float32), 1.0)
    first = tl.maximum(whole + tl.floor(broken - support + 0.5).to(tl.int32), 0)
    total = tl.zeros_like(broken)
    for tap in range(0, (2 * support).to(tl.int32) + 2):
        total += filter_weight(first + tap, whole, broken, support, source_size)
    return whole, broken, support, first, total


@triton.jit
def filter_weight(place, whole, broken, support, source_size):
    distance = tl.abs((place - whole).to(tl.float32) + 0.5 - broken) / support
    return tl.where(place < source_size, tl.maximum(1 - distance, 0.0), 0.0)


@triton.jit
def preprocess_kernel(
    image,
    out,
    scale_0,
    scale_1,
    scale_2,
    offset_0,
    offset_1,
    offset_2,
    H,
    W,
    h,
    w,
    stride_b,
    stride_h,
    stride_w,
    stride_c,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    H, W, h, w = tl.to_tensor(H), tl.to_tensor(W), tl.to_tensor(h), tl.to_tensor(w)
    column_blocks, rows = tl.cdiv(w, BLOCK_W), tl.cdiv(h, BLOCK_H)
    program = tl.program_id(0)
    x = program % column_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    y = program // column_blocks % rows * BLOCK_H + tl.arange(0, BLOCK_H)
    photo = (program // column_blocks // rows).to(tl.int64)
    mask = (y < h)[:, None] & (x < w)[None, :]
    row_whole, row_broken, row_support, row_first, row_total = filter_span(tl.minimum(y, h - 1), H, h)
    column_whole, column_broken, column_support, column_first, column_total = filter_span(tl.minimum(x, w - 1), W, w)
    red = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    green = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    blue = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    for row_tap in range(0, (2 * row_support).to(tl.int32) + 2):
        row = row_first + row_tap
        row_weight = filter_weight(row, row_whole, row_broken, row_support, H)
        for column_tap in range(0, (2 * column_support).to(tl.int32) + 2):
            column = column_first + column_tap
            column_weight = filter_weight(column, column_whole, column_broken, column_support, W)
            weight = row_weight[:, None] * column_weight[None, :]
            place = photo * stride_b + row[:, None].to(tl.int64) * stride_h + column[None, :].to(tl.int64) * stride_w
            inside = mask & (row < H)[:, None] & (column < W)[None, :]
            red += weight * tl.load(image + place, mask=inside, other=0).to(tl.float32)
            green += weight * tl.load(image + place + stride_c, mask=inside, other=0).to(tl.float32)
            blue += weight * tl.load(image + place + 2 * stride_c, mask=inside, other=0).to(tl.float32)
    level = 1 / (255 * row_total[:, None] * column_total[None, :])
    target = ((photo * 3) * h + y[:, None]) * w + x[None, :]
    plane = h.to(tl.int64) * w
    kind = out.dtype.element_ty
    tl.store(out + target, (red * level * scale_0 + offset_0).to(kind), mask=mask)
    tl.store(out + target + plane, (green * level * scale_1 + offset_1).to(kind), mask=mask)
    tl.store(out + target + 2 * plane, (blue * level * scale_2 + offset_2).to(kind), mask=mask)


def preprocess_triton(images, size, mean, std, dtype=torch.float32, swap=False):
    """images (B, H, W, 3) uint8 of any strides, mean and std three floats in RGB order -> (B, 3, h, w) of dtype, RGB.

    swap reads the photos' channels as BGR.
    """
    (B, H, W, _), (h, w) = images.shape, size
    if max(h * H, w * W) >= 2**28:
        raise ValueError(f"size: photo and input are too large for 32-bit indices, got {(H, W)} and {(h, w)}")
    out = torch.empty((B, 3, h, w), dtype=dtype, device=images.device)
    scales, offsets = [1 / s for s in std], [-m / s for m, s in zip(mean, std)]
    preprocess_kernel[B * triton.cdiv(h, LAUNCH.BLOCK_H) * triton.cdiv(w, LAUNCH.BLOCK_W),](
        images[..., 2:] if swap else images,
        out,
        *scales,
        *offsets,
        H,
        W,
        h,
        w,
        *images.stride()[:3],
        -images.stride(3) if swap else images.stride(3),
        **vars(LAUNCH),
    )
    return out
