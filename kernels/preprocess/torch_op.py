"""preprocess as the operator torch.ops.zeroseg.preprocess: torch.compile keeps it whole."""

import torch
from torch import Tensor

from zeroseg.kernels.preprocess.batch import preprocess_batch


@torch.library.custom_op("zeroseg::preprocess", mutates_args=())
def preprocess_op(
    images: Tensor,
    height: int,
    width: int,
    mean: list[float],
    std: list[float],
    order: str = "rgb",
    dtype: torch.dtype = torch.float32,
    impl: str = "auto",
) -> Tensor:
    """As preprocess_batch, with the size in two numbers."""
    return preprocess_batch(images, (height, width), mean, std, impl, order=order, dtype=dtype)


@preprocess_op.register_fake
def _(images, height, width, mean, std, order="rgb", dtype=torch.float32, impl="auto"):
    return images.new_empty((images.shape[0], 3, height, width), dtype=dtype)
