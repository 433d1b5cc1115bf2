"""mask_decode by the CUDA library: memory for the outputs, arguments, the call."""

import torch

from zeroseg.kernels._cuda import TYPES, MaskDecodeArgs, call

DTYPES = {"int16": torch.int16, "uint8": torch.uint8, "uint16": torch.uint16}


def mask_decode_cuda(maps, table, size, label_dtype="int16", threshold=float("-inf"), overlay=None):
    """maps (B, K, h, w) float32, table (B, K) int32 or None for labels 0 ... K - 1, overlay with image (B, H, W, 3),
    colors (N, 3) and alpha_255, or None; all on one device.

    Returns labels (B, H, W), confidence (B, H, W) float32 and, with an overlay, the picture (B, H, W, 3) uint8.
    """
    (B, K, h, w), (H, W) = maps.shape, size
    labels = torch.empty((B, H, W), dtype=DTYPES[label_dtype], device=maps.device)
    confidence = torch.empty((B, H, W), dtype=torch.float32, device=maps.device)
    args = MaskDecodeArgs(
        maps.data_ptr(),
        *maps.stride(),
        batch=B,
        segments=K,
        rows=h,
        columns=w,
        height=H,
        width=W,
        maps_type=TYPES["float32"],
        label_bytes=labels.element_size(),
        threshold=threshold,
        labels=labels.data_ptr(),
        confidence=confidence.data_ptr(),
    )
    if table is not None:
        table = table.contiguous()
        args.table, args.table_stride_b = table.data_ptr(), K
    if overlay is None:
        call("zs_cuda_mask_decode", maps.device, args)
        return labels, confidence
    image, colors = overlay.image.contiguous(), overlay.colors.contiguous()
    picture = torch.empty_like(image)
    args.image, args.colors, args.picture = image.data_ptr(), colors.data_ptr(), picture.data_ptr()
    args.color_count, args.alpha = len(colors), overlay.alpha_255
    call("zs_cuda_mask_decode", maps.device, args)
    return labels, confidence, picture
