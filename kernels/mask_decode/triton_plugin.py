"""mask_decode's kernel with the parameters that a TensorRT plugin can give: inputs, int32 sizes, outputs."""

import triton
import triton.language as tl

from zeroseg.kernels.mask_decode.triton_impl import mask_decode_kernel


@triton.jit
def mask_decode_plugin_kernel(
    maps,
    table,
    image,
    K,
    h,
    w,
    H,
    W,
    labels,
    confidence,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """maps (B, K, h, w), table (B, K) int32 -> labels (B, H, W) int32, confidence (B, H, W); image is not read."""
    plane = tl.to_tensor(h).to(tl.int64) * w
    mask_decode_kernel(
        maps,
        table,
        labels,
        confidence,
        image,
        image,
        image,
        float("-inf"),
        0,
        0,
        K,
        h,
        w,
        H,
        W,
        plane * K,
        plane,
        w,
        1,
        True,
        False,
        BLOCK_H,
        BLOCK_W,
    )
