"""mask_decode as the operator torch.ops.zeroseg.mask_decode: torch.compile keeps it whole."""

import torch
from torch import Tensor

from zeroseg.kernels.mask_decode import Overlay
from zeroseg.kernels.mask_decode.batch import mask_decode_batch

DTYPES = {"int16": torch.int16, "uint8": torch.uint8, "uint16": torch.uint16}


@torch.library.custom_op("zeroseg::mask_decode", mutates_args=())
def mask_decode_op(
    maps: Tensor,
    table: Tensor | None,
    height: int,
    width: int,
    label_dtype: str = "int16",
    threshold: float | None = None,
    image: Tensor | None = None,
    colors: Tensor | None = None,
    alpha: float = 0.5,
    impl: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """As mask_decode_batch; threshold None is none. Returns labels, confidence, and the picture (no elements without
    an image)."""
    overlay = None if image is None else Overlay(image, colors, alpha)
    labels, confidence, *picture = mask_decode_batch(
        maps,
        table,
        (height, width),
        impl,
        label_dtype=label_dtype,
        threshold=float("-inf") if threshold is None else threshold,
        overlay=overlay,
    )
    return labels, confidence, picture[0] if picture else maps.new_empty(0, dtype=torch.uint8)


@mask_decode_op.register_fake
def _(maps, table, height, width, label_dtype="int16", threshold=None, image=None, colors=None, alpha=0.5, impl="auto"):
    shape = (maps.shape[0], height, width)
    return (
        maps.new_empty(shape, dtype=DTYPES[label_dtype]),
        maps.new_empty(shape, dtype=torch.float32),
        maps.new_empty((*shape, 3) if image is not None else (0,), dtype=torch.uint8),
    )
