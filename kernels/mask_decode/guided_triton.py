"""mask_decode with a guide by Triton: the coarse coefficients applied to the full-size photo.

As in triton_impl, a program takes up to BLOCK_H rows that lie between the centres of two rows of cells, and BLOCK_W
columns; for every segment it reads its columns of the coefficients once and blends them for all its pixels. No map of
full size exists.

B images, K segments, cells (h, w) of `cell` pixels, photo (H, W). Places are exact in integers.
"""

import torch
import triton
import triton.language as tl

from zeroseg.kernels.mask_decode import guided_torch
from zeroseg.kernels.mask_decode.guided_reference import grid_of
from zeroseg.kernels.mask_decode.triton_impl import DTYPES, Launch

LAUNCH = Launch(BLOCK_H=8, BLOCK_W=128, num_warps=4)  # not yet timed on any GPU


@triton.jit
def cell_place(target, cells, cell):
    """Lower of the two cells around a pixel and the weight of the upper one; edges clamped."""
    ahead = tl.minimum(tl.maximum(2 * target + 1 - cell, 0), 2 * cell * (cells - 1))
    low = tl.minimum(ahead // (2 * cell), tl.maximum(cells - 2, 0))
    return low, (ahead - low * 2 * cell).to(tl.float32) / (2 * cell).to(tl.float32)


@triton.jit
def guided_decode_kernel(
    coefficients,
    table,
    guide,
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
    cell,
    WITH_TABLE: tl.constexpr,
    WITH_OVERLAY: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    h, w, H, W, cell = tl.to_tensor(h), tl.to_tensor(w), tl.to_tensor(H), tl.to_tensor(W), tl.to_tensor(cell)
    column_blocks = tl.cdiv(W, BLOCK_W)
    intervals = tl.maximum(h - 1, 1)
    longest = tl.where(h > 2, (3 * cell + 1) // 2, H)  # as in row_blocks
    row_blocks = tl.cdiv(longest, BLOCK_H)
    program = tl.program_id(0)
    x = program % column_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    program = program // column_blocks
    row_block = program % row_blocks
    program = program // row_blocks
    interval = program % intervals
    photo = (program // intervals).to(tl.int64)

    first = tl.where(interval == 0, 0, (2 * interval + 1) * cell // 2)
    y = first + row_block * BLOCK_H + tl.arange(0, BLOCK_H)
    row_low, down = cell_place(y, h, cell)
    inside_H = (y < H) & (row_low == interval)
    column_low, across = cell_place(tl.minimum(x, W - 1), w, cell)
    left = column_low * 4 * K
    right = tl.minimum(column_low + 1, w - 1) * 4 * K
    upper = coefficients + (photo * h + interval) * w * 4 * K
    lower = coefficients + (photo * h + tl.minimum(interval + 1, h - 1)) * w * 4 * K
    down_H, up_H = down[:, None], 1 - down[:, None]

    mask = inside_H[:, None] & (x < W)[None, :]
    place = (photo * H + y[:, None]) * W + x[None, :]
    red = tl.load(guide + place * 3, mask=mask, other=0).to(tl.float32) / 255
    green = tl.load(guide + place * 3 + 1, mask=mask, other=0).to(tl.float32) / 255
    blue = tl.load(guide + place * 3 + 2, mask=mask, other=0).to(tl.float32) / 255

    best = tl.full((BLOCK_H, BLOCK_W), float("-inf"), tl.float32)
    label = tl.zeros((BLOCK_H, BLOCK_W), tl.int32)
    for k in range(0, K):
        value = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
        for c in tl.static_range(4):
            at = c * K + k
            upper_W = tl.load(upper + left + at) * (1 - across) + tl.load(upper + right + at) * across
            lower_W = tl.load(lower + left + at) * (1 - across) + tl.load(lower + right + at) * across
            factor = upper_W[None, :] * up_H + lower_W[None, :] * down_H
            if c == 0:
                value += factor * red
            elif c == 1:
                value += factor * green
            elif c == 2:
                value += factor * blue
            else:
                value += factor
        here = k
        if WITH_TABLE:
            here = tl.load(table + photo * K + k)
        label = tl.where(value > best, here, label)  # the lowest k wins a tie
        best = tl.maximum(best, value)
    best = tl.minimum(tl.maximum(best, 0.0), 1.0)
    label = tl.where(best < threshold, -1, label)

    tl.store(labels + place, label.to(labels.dtype.element_ty), mask=mask)
    tl.store(confidence + place, best, mask=mask)
    if WITH_OVERLAY:
        tinted = (label >= 0) & (label < color_count)
        for channel in tl.static_range(3):
            before = tl.load(image + place * 3 + channel, mask=mask, other=0).to(tl.int32)
            color = tl.load(colors + label * 3 + channel, mask=mask & tinted, other=0).to(tl.int32)
            after = tl.where(tinted, (before * (255 - alpha) + color * alpha + 127) // 255, before)
            tl.store(picture + place * 3 + channel, after.to(tl.uint8), mask=mask)


def row_blocks(rows: int, height: int, cell: int, block: int) -> int:
    """Blocks that hold the rows of the longest interval: the first and the last have half as many more."""
    return triton.cdiv((3 * cell + 1) // 2 if rows > 2 else height, block)


def guided_decode_triton(maps, table, guide, label_dtype="int16", threshold=float("-inf"), overlay=None):
    """guide (B, H, W, 3) uint8; the other arguments and what is returned as triton_impl.mask_decode_triton."""
    guide = guide.contiguous()
    (B, K), (H, W) = maps.shape[:2], guide.shape[1:3]
    grid = grid_of((H, W))
    if max(H, W) >= 2**28:
        raise ValueError(f"guide: the photo is too large for 32-bit indices, got {(H, W)}")
    coefficients = guided_torch.coarse_coefficients(maps, guide).contiguous()
    labels = torch.empty((B, H, W), dtype=DTYPES[label_dtype], device=maps.device)
    confidence = torch.empty((B, H, W), dtype=torch.float32, device=maps.device)
    image, colors, picture, alpha, color_count = maps, maps, maps, 0, 0
    if overlay is not None:
        image, colors, alpha = overlay.image.contiguous(), overlay.colors.contiguous(), overlay.alpha_255
        picture, color_count = torch.empty_like(image), len(colors)
    blocks = row_blocks(grid.rows, H, grid.cell, LAUNCH.BLOCK_H) * triton.cdiv(W, LAUNCH.BLOCK_W)
    guided_decode_kernel[B * max(grid.rows - 1, 1) * blocks,](
        coefficients,
        maps if table is None else table.contiguous(),
        guide,
        labels,
        confidence,
        image,
        colors,
        picture,
        threshold,
        alpha,
        color_count,
        K,
        grid.rows,
        grid.columns,
        H,
        W,
        grid.cell,
        WITH_TABLE=table is not None,
        WITH_OVERLAY=overlay is not None,
        **vars(LAUNCH),
    )
    return (labels, confidence) if overlay is None else (labels, confidence, picture)
