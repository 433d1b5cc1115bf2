"""preprocess by the CUDA library: memory for the output, arguments, the call."""

from ctypes import c_float

import torch

from zeroseg.kernels._cuda import TYPES, PreprocessArgs, call


def preprocess_cuda(images, size, mean, std, dtype=torch.float32, swap=False):
    """images (B, H, W, 3) uint8 of any strides, mean and std three floats in RGB order -> (B, 3, h, w) of dtype, RGB.

    swap reads the photos' channels as BGR.
    """
    (B, H, W, _), (h, w) = images.shape, size
    out = torch.empty((B, 3, h, w), dtype=dtype, device=images.device)
    first = images[..., 2:] if swap else images
    args = PreprocessArgs(
        first.data_ptr(),
        *images.stride()[:3],
        -images.stride(3) if swap else images.stride(3),
        batch=B,
        height=H,
        width=W,
        out_height=h,
        out_width=w,
        scale=(c_float * 3)(*(1 / s for s in std)),
        offset=(c_float * 3)(*(-m / s for m, s in zip(mean, std))),
        out_type=TYPES[str(dtype).removeprefix("torch.")],
        out=out.data_ptr(),
    )
    call("zs_cuda_preprocess", images.device, args)
    return out
