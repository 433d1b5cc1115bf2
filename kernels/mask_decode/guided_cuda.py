"""mask_decode with a guide by the CUDA library: coefficients by torch, memory for the outputs, arguments, the call."""

import torch

from zeroseg.kernels._cuda import GuidedDecodeArgs, call
from zeroseg.kernels.mask_decode import guided_torch
from zeroseg.kernels.mask_decode.cuda_impl import DTYPES
from zeroseg.kernels.mask_decode.guided_reference import grid_of


def guided_decode_cuda(maps, table, guide, label_dtype="int16", threshold=float("-inf"), overlay=None):
    """guide (B, H, W, 3) uint8; the other arguments and what is returned as cuda_impl.mask_decode_cuda."""
    guide = guide.contiguous()
    (B, K), (H, W) = maps.shape[:2], guide.shape[1:3]
    coefficients = guided_torch.coarse_coefficients(maps, guide).contiguous()
    labels = torch.empty((B, H, W), dtype=DTYPES[label_dtype], device=maps.device)
    confidence = torch.empty((B, H, W), dtype=torch.float32, device=maps.device)
    args = GuidedDecodeArgs(
        coefficients=coefficients.data_ptr(),
        guide=guide.data_ptr(),
        batch=B,
        segments=K,
        cell=grid_of((H, W)).cell,
        height=H,
        width=W,
        label_bytes=labels.element_size(),
        threshold=threshold,
        labels=labels.data_ptr(),
        confidence=confidence.data_ptr(),
    )
    if table is not None:
        table = table.contiguous()
        args.table, args.table_stride_b = table.data_ptr(), K
    if overlay is None:
        call("zs_cuda_guided_decode", maps.device, args)
        return labels, confidence
    image, colors = overlay.image.contiguous(), overlay.colors.contiguous()
    picture = torch.empty_like(image)
    args.image, args.colors, args.picture = image.data_ptr(), colors.data_ptr(), picture.data_ptr()
    args.color_count, args.alpha = len(colors), overlay.alpha_255
    call("zs_cuda_guided_decode", maps.device, args)
    return labels, confidence, picture
