"""mask_decode for batches of torch tensors that stay on their device.

The counterpart of mask_decode and dense_decode, which take one photo in NumPy arrays.
"""

from collections.abc import Sequence

import torch

from zeroseg.errors import check_array
from zeroseg.kernels import _cuda, _triton
from zeroseg.kernels._dispatch import choose_impl
from zeroseg.kernels.mask_decode import guided_reference, reference

LARGEST_LABEL = {"int16": 32767, "uint8": 254, "uint16": 65534}
# best first: what keeps an implementation from running on tensors of a device, None where nothing does
IMPLEMENTATIONS = {"triton": _triton.why_not, "cuda": _cuda.why_not, "reference": lambda device: None}


def mask_decode_batch(
    maps: torch.Tensor,
    table: torch.Tensor | None,
    size: tuple[int, int],
    impl: str = "auto",
    *,
    guide: torch.Tensor | None = None,
    label_dtype: str = "int16",
    threshold: float = float("-inf"),
    overlay=None,
) -> tuple[torch.Tensor, ...]:
    """Decode soft maps, or label logits, into label maps.

    maps         (B, K, h, w) float32 of any strides, finite (values are not looked at); see stage_maps for a model's.
    table        (B, K) integers: label of each segment, -1 for background; None where segment k is label k, as in
                 maps of label logits. Values are not looked at: a label must fit label_dtype.
    size         (H, W), each >= 1.
    impl         "auto", "reference", "cuda" or "triton"; "auto" takes the first that runs on the device of maps.
    guide        the photos, (B, H, W, 3) uint8, channels in any order: the maps then follow their edges, and confidence
                 is cut to [0, 1]. None: bilinear.
    label_dtype  "int16", "uint8" or "uint16"; in the last two background is the dtype's largest value.
    threshold    pixels whose best value is lower become background.
    overlay      None, or an Overlay of tensors: image (B, H, W, 3) uint8, colors (N, 3) uint8.

    Returns label maps (B, H, W) of label_dtype, confidence (B, H, W) float32 and, with an overlay, the pictures
    (B, H, W, 3) uint8, on the device of maps. Raises ValueError for anything else than the above.
    """
    check_array("maps", maps, ("B", "K", "h", "w"), "float32")
    if 0 in maps.shape:
        raise ValueError(f"maps: expected no empty axis, got {tuple(maps.shape)}")
    if label_dtype not in LARGEST_LABEL:
        raise ValueError(f"label_dtype: expected one of {', '.join(LARGEST_LABEL)}, got {label_dtype!r}")
    if table is not None:
        check_array("table", table, maps.shape[:2], ("int64", "int32", "int16"))
        table = table.to(maps.device, torch.int32)
    elif maps.shape[1] > LARGEST_LABEL[label_dtype] + 1:
        raise ValueError(
            f"maps: expected at most {LARGEST_LABEL[label_dtype] + 1} labels for {label_dtype}, got {maps.shape[1]}"
        )
    if threshold != threshold:
        raise ValueError("threshold: expected a number, got NaN")
    size = tuple(int(side) for side in size)
    if min(size) < 1:
        raise ValueError(f"size: expected (H, W) of at least 1 x 1, got {size}")
    if overlay is not None:
        check_array("overlay.image", overlay.image, (maps.shape[0], *size, 3), "uint8")
        check_array("overlay.colors", overlay.colors, ("N", 3), "uint8")
        if not 0 <= overlay.alpha <= 1:
            raise ValueError(f"overlay.alpha: expected 0 to 1, got {overlay.alpha}")
    if guide is not None:
        check_array("guide", guide, (maps.shape[0], *size, 3), "uint8")
    why_not = {name: (lambda reason=reason: reason(maps.device)) for name, reason in IMPLEMENTATIONS.items()}
    chosen = choose_impl("mask_decode_batch", impl, why_not)
    if guide is not None:
        if chosen == "cuda":
            from zeroseg.kernels.mask_decode.guided_cuda import guided_decode_cuda as guided
        elif chosen == "triton":
            from zeroseg.kernels.mask_decode.guided_triton import guided_decode_triton as guided
        else:
            guided = _guided_by_reference
        return guided(maps, table, guide.to(maps.device), label_dtype, threshold, overlay)
    if chosen == "cuda":
        from zeroseg.kernels.mask_decode.cuda_impl import mask_decode_cuda as decode
    elif chosen == "triton":
        from zeroseg.kernels.mask_decode.triton_impl import mask_decode_triton as decode
    else:
        decode = _by_reference
    return decode(maps, table, size, label_dtype, threshold, overlay)


def stage_maps(stages: Sequence[torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
    """The product of a model's stage maps [(B, L, S1), (B, S1, S2), ...], as maps (B, K, h, w) for mask_decode_batch.

    grid (h, w) with h w = L. The product is taken at the size of the grid, never at that of the photo.
    """
    product = stages[0]
    for stage in stages[1:]:
        product = product @ stage
    check_array("stages", product, ("B", grid[0] * grid[1], "K"))
    return product.transpose(1, 2).unflatten(2, grid)


def _by_reference(maps, table, size, label_dtype, threshold, overlay):
    return _one_by_one(reference.mask_decode, maps, table, [size] * len(maps), label_dtype, threshold, overlay)


def _guided_by_reference(maps, table, guide, label_dtype, threshold, overlay):
    photos = guide.cpu().numpy()
    return _one_by_one(guided_reference.guided_decode, maps, table, photos, label_dtype, threshold, overlay)


def _one_by_one(decode, maps, table, sizes_or_photos, label_dtype, threshold, overlay):
    results = []
    for index, one in enumerate(maps.cpu().numpy()):
        one_overlay = overlay and overlay._replace(
            image=overlay.image[index].cpu().numpy(), colors=overlay.colors.cpu().numpy()
        )
        one_table = None if table is None else table[index].cpu().numpy()
        results.append(decode(one, one_table, sizes_or_photos[index], label_dtype, threshold, one_overlay))
    return tuple(torch.stack([torch.from_numpy(x) for x in same]).to(maps.device) for same in zip(*results))
