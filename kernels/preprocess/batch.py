"""preprocess for batches of torch tensors that stay on their device."""

from collections.abc import Sequence

import torch

from zeroseg.errors import check_array
from zeroseg.kernels import _cuda, _triton
from zeroseg.kernels._dispatch import choose_impl

# best first: what keeps an implementation from running on tensors of a device, None where nothing does
IMPLEMENTATIONS = {"triton": _triton.why_not, "cuda": _cuda.why_not, "reference": lambda device: None}


def preprocess_batch(
    images: torch.Tensor,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    impl: str = "auto",
    *,
    order: str = "rgb",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Resize and normalise photos of one size.

    images     (B, H, W, 3) uint8 of any non-negative strides, as a view of a decoder's surface may have.
    size       (h, w) of the result, each >= 1.
    mean, std  three values each, for RGB in [0, 1]; std positive.
    impl       "auto", "reference", "cuda" or "triton"; all return the same to within one grey level, 1 / (255 std).
    order      "rgb" or "bgr" of the photos; the result is RGB.
    dtype      torch.float32 or torch.float16 of the result.

    Returns (B, 3, h, w), contiguous, on the images' device. Raises ValueError for anything else than the above.
    """
    check_array("images", images, ("B", "H", "W", 3), "uint8")
    if 0 in images.shape:
        raise ValueError(f"images: expected no empty axis, got {tuple(images.shape)}")
    size, mean, std = tuple(map(int, size)), tuple(map(float, mean)), tuple(map(float, std))
    if min(size) < 1:
        raise ValueError(f"size: expected (h, w) of at least 1 x 1, got {size}")
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"mean, std: expected three values each, std positive, got {mean}, {std}")
    if order not in ("rgb", "bgr"):
        raise ValueError(f"order: expected rgb or bgr, got {order!r}")
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"dtype: expected torch.float32 or torch.float16, got {dtype}")
    why_not = {name: (lambda reason=reason: reason(images.device)) for name, reason in IMPLEMENTATIONS.items()}
    chosen = choose_impl("preprocess_batch", impl, why_not)
    if chosen == "reference":
        return _by_reference(images.flip(-1) if order == "bgr" else images, size, mean, std, dtype)
    if chosen == "cuda":
        from zeroseg.kernels.preprocess.cuda_impl import preprocess_cuda as run
    else:
        from zeroseg.kernels.preprocess.triton_impl import preprocess_triton as run
    return run(images, size, mean, std, dtype, swap=order == "bgr")


def _by_reference(images, size, mean, std, dtype):
    import numpy as np

    from zeroseg.kernels.preprocess import reference

    mean, std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    made = [torch.from_numpy(reference.preprocess(image, size, mean, std)) for image in images.cpu().numpy()]
    return torch.stack(made).to(images.device, dtype)
