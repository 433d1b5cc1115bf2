"""The shapes of an engine, derived from the network's inputs and the sizes that preprocessing can produce."""

from collections.abc import Mapping

from zeroseg.errors import ZerosegError
from zeroseg.photos.network_size import network_size
from zeroseg.sidecar import Sidecar

LABELS = (1, 20, 1200)  # of a self-contained graph: least, the count that tactics are timed at, greatest
BEST_PHOTO = (480, 640)


def make_profile(
    inputs: Mapping[str, tuple[int, ...]], sidecar: Sidecar, max_batch: int, source: str
) -> dict[str, list[list[int]]]:
    """Input -> [least, best, greatest] shape, for every input that has a free axis (-1 in `inputs`).

    (B, 3, H, W) are images: up to max_batch, of every size that zeroseg's preprocessing makes of a photo. (N, D), with
    the sidecar's embedding size D, are the label embeddings of a self-contained graph (--masks). ZerosegError for any
    other input; source names the network in it.
    """
    profile = {}
    for name, dims in inputs.items():
        if len(dims) == 4 and dims[1] == 3:
            wanted = [[count, 3, *size] for count, size in zip((1, 1, max_batch), image_sizes(sidecar), strict=True)]
        elif len(dims) == 2 and dims[1] == sidecar.embedding_dim:
            wanted = [[count, dims[1]] for count in LABELS]
        elif -1 in dims:
            raise ZerosegError(
                f"{source}: not a zeroseg network: expected an input (B, 3, H, W), got {name} of shape {tuple(dims)}"
            )
        if -1 in dims:
            profile[name] = [
                [size if side == -1 else side for side, size in zip(dims, shape, strict=True)] for shape in wanted
            ]
    return profile


def image_sizes(sidecar: Sidecar) -> list[tuple[int, int]]:
    """The least, the best and the greatest (H, W) at the network. Windows, in px, have one size."""
    if sidecar.dense is not None:
        return [(sidecar.dense.window,) * 2] * 3
    spec = sidecar.input
    best = network_size(BEST_PHOTO, spec.short_side, spec.max_long_side, spec.multiple)
    # a square photo gives the longest short side, a panorama the longest long side
    side = max(network_size(size, spec.short_side, spec.max_long_side, spec.multiple)[1] for size in ((1, 1), (1, 999)))
    return [(spec.multiple,) * 2, best, (side, side)]
