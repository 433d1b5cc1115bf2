"""The contests of mask_decode with a guide: the same filter in NumPy and OpenCV, and decoding without a guide."""

from collections.abc import Iterator

import numpy as np

SIZES = {"640x480": (480, 640), "1080p": (1080, 1920)}


def guided_contests(photo: np.ndarray, maps: np.ndarray) -> Iterator[dict]:
    """Fields of the contests of bench/kernels.py, on a model's maps (K, h, w) of the photo (H, W, 3)."""
    import cv2

    from zeroseg.kernels.mask_decode import mask_decode
    from zeroseg.kernels.mask_decode.guided_reference import PASSES, grid_of

    table = np.arange(len(maps)) - 1
    for name, size in SIZES.items():
        guide, grid = cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA), grid_of(size)
        pixels, cells = size[0] * size[1], grid.rows * grid.columns
        yield {
            "op": "mask_decode",
            "impl": "native",
            "case": f"{name}, guided",
            "bytes_moved": maps.nbytes + 9 * pixels,  # the photo read once, labels and confidence written once
            # per pixel and map 4 coefficients interpolated and a product of 4; per cell, map and pass two windows' sums
            # of 4 values and the product with a 3 x 3 matrix
            "flops": len(maps) * (21 * pixels + PASSES * 55 * cells),
            "ours": lambda guide=guide, size=size: mask_decode(maps, table, size, "native", guide=guide),
            "contenders": {
                "OpenCV guided filter + NumPy argmax": lambda guide=guide: by_opencv(maps, guide),
                "itself without a guide": lambda size=size: mask_decode(maps, table, size, "native"),
            },
        }


def by_opencv(maps: np.ndarray, guide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Winning segments (H, W) and their values: what one would write without the kernel, in float32."""
    import cv2

    from zeroseg.kernels.mask_decode.guided_reference import DETAIL_FLOOR, EPSILON, PASSES, grid_of

    height, width = guide.shape[:2]
    grid = grid_of((height, width))
    shape, window = (grid.columns, grid.rows), (2 * grid.radius + 1,) * 2

    def box(x, window=window):
        planes = x.reshape(grid.rows, grid.columns, -1)
        sums = [cv2.boxFilter(p, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT) for p in parts(planes)]
        count = cv2.boxFilter(
            np.ones((grid.rows, grid.columns), np.float32), -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        return (joined(sums) / count[..., None]).reshape(x.shape)

    def enlarged(planes):  # cells to pixels; the last cells may be cut
        full = (grid.columns * grid.cell, grid.rows * grid.cell)
        return joined([cv2.resize(p, full, interpolation=cv2.INTER_LINEAR) for p in parts(planes)])[:height, :width]

    below, beside = grid.rows * grid.cell - height, grid.columns * grid.cell - width
    whole = cv2.copyMakeBorder(guide, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    whole = whole.astype(np.float32)
    mean = cv2.resize(whole, shape, interpolation=cv2.INTER_AREA) / 255
    squares = cv2.resize((whole**2).sum(2), shape, interpolation=cv2.INTER_AREA) / 255**2
    down, across = (
        between_places(cells, grid.cell / side, places)
        for cells, side, places in zip((grid.rows, grid.columns), (height, width), maps.shape[1:], strict=True)
    )
    p = (down @ maps @ across.T).transpose(1, 2, 0)
    guide_mean = box(mean)
    covariance = box(mean[..., :, None] * mean[..., None, :]) - guide_mean[..., :, None] * guide_mean[..., None, :]
    inverse = np.linalg.inv(covariance + EPSILON * np.eye(3, dtype=np.float32))
    for _ in range(PASSES):
        p_mean = box(p)
        a = inverse @ (box(mean[..., None] * p[..., None, :]) - guide_mean[..., None] * p_mean[..., None, :])
        b = box(p_mean - (a * guide_mean[..., None]).sum(2))
        a = box(a)
        p = (a * mean[..., None]).sum(2) + b
    between = np.maximum(box((mean**2).sum(2), (3, 3)) - (box(mean, (3, 3)) ** 2).sum(2), 0)
    detail = between / (between + np.maximum(squares - (mean**2).sum(2), 0) + DETAIL_FLOOR)
    a = a * (detail**2)[..., None, None]
    q = enlarged(p - (a * mean[..., None]).sum(2))
    for c in range(3):
        q += enlarged(a[:, :, c]) * (guide[..., c : c + 1] * np.float32(1 / 255))
    winner = q.argmax(2)
    return winner, np.take_along_axis(q, winner[..., None], 2)[..., 0]


def between_places(cells: int, step: float, places: int) -> np.ndarray:
    """(cells, places) float32: what every place of a map weighs at the cells' centres; step: a cell's share of it."""
    centers = (np.arange(cells) + 0.5) * step * places - 0.5
    weights = [np.interp(centers, np.arange(places), one) for one in np.eye(places)]
    return np.stack(weights, 1).astype(np.float32)


def parts(planes: np.ndarray) -> list[np.ndarray]:
    """Four channels at a time, as OpenCV wants them."""
    return [np.ascontiguousarray(planes[..., i : i + 4]) for i in range(0, planes.shape[2], 4)]


def joined(planes: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([p if p.ndim == 3 else p[..., None] for p in planes], 2)
