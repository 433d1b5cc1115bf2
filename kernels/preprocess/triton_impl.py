"""preprocess by Triton: every program makes one tile of the input, all three channels, in one pass.

The triangle filter of Pillow's bilinear resize, widened by the scale when it shrinks: output place x covers source
places around (x + 1/2) scale within max(scale, 1), weights 1 - distance / max(scale, 1), normalised where the edge cuts
them. Unlike Pillow nothing is rounded to uint8 in between, which moves a value by at most one grey level.

B images, photo (H, W), input (h, w).
"""

import torch
import triton
import triton.language as tl

BLOCK_H, BLOCK_W, WARPS = 8, 64, 4  # not yet timed on any GPU


@triton.jit
def filter_span(target, source_size, target_size):
    """Of output places: centre, half width of the filter, the first source place and the weights' sum."""
    scale = source_size.to(tl.float32) / target_size.to(tl.float32)
    support = tl.maximum(scale, 1.0)
    centre = (target.to(tl.float32) + 0.5) * scale
    first = tl.maximum((centre - support + 0.5).to(tl.int32), 0)
    total = tl.zeros_like(centre)
    for tap in range(0, (2 * support).to(tl.int32) + 2):
        total += filter_weight(first + tap, centre, support, source_size)
    return centre, support, first, total


@triton.jit
def filter_weight(place, centre, support, source_size):
    distance = tl.abs(place.to(tl.float32) + 0.5 - centre) / support
    return tl.where(place < source_size, tl.maximum(1 - distance, 0.0), 0.0)


@triton.jit
def preprocess_kernel(
    image, out, scale_0, scale_1, scale_2, offset_0, offset_1, offset_2, H, W, h, w,
    stride_b, stride_h, stride_w, stride_c, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):
    H, W, h, w = tl.to_tensor(H), tl.to_tensor(W), tl.to_tensor(h), tl.to_tensor(w)
    column_blocks, rows = tl.cdiv(w, BLOCK_W), tl.cdiv(h, BLOCK_H)
    program = tl.program_id(0)
    x = program % column_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    y = program // column_blocks % rows * BLOCK_H + tl.arange(0, BLOCK_H)
    photo = (program // column_blocks // rows).to(tl.int64)
    mask = (y < h)[:, None] & (x < w)[None, :]
    row_centre, row_support, row_first, row_total = filter_span(y, H, h)
    column_centre, column_support, column_first, column_total = filter_span(x, W, w)
    red = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    green = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    blue = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
    for row_tap in range(0, (2 * row_support).to(tl.int32) + 2):
        row = row_first + row_tap
        row_weight = filter_weight(row, row_centre, row_support, H)
        for column_tap in range(0, (2 * column_support).to(tl.int32) + 2):
            column = column_first + column_tap
            weight = row_weight[:, None] * filter_weight(column, column_centre, column_support, W)[None, :]
            place = (photo * stride_b + row[:, None].to(tl.int64) * stride_h
                     + column[None, :].to(tl.int64) * stride_w)
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
    out = torch.empty((B, 3, h, w), dtype=dtype, device=images.device)
    scales, offsets = [1 / s for s in std], [-m / s for m, s in zip(mean, std)]
    preprocess_kernel[B * triton.cdiv(h, BLOCK_H) * triton.cdiv(w, BLOCK_W),](
        images[..., 2:] if swap else images, out, *scales, *offsets, H, W, h, w, *images.stride()[:3],
        -images.stride(3) if swap else images.stride(3), BLOCK_H=BLOCK_H, BLOCK_W=BLOCK_W, num_warps=WARPS)
    return out
