"""Multi-scale views and dense maps of every photo, embedded once by the teacher and cached.

A grid g divides the centre square into g x g cells, each resized to the teacher's input: 1x1 ... 4x4 give 30 views,
first v_1, the whole square, then row by row. The paper can do this once because its only augmentation is the centre
crop. A dense map covers the whole photo, resampled to one fixed square grid in relative coordinates. A crop of any box
samples it bilinearly, which allows other augmentations.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from zeroseg.errors import ZerosegError
from zeroseg.training.photos import WHOLE, PhotoSet, UnreadablePhoto, centre_square, crop_array
from zeroseg.training.progress import progress_bar
from zeroseg.training.recipes import ViewConfig
from zeroseg.training.row_cache import RowCache, other_versions
from zeroseg.training.teacher import Teacher, to_tensor


@dataclass(frozen=True)
class ViewCache:
    """The teacher's embeddings of every photo of a set.

    views       (P, V, D) float16 memory map in the order of grid_boxes, or None.
    dense       (P, g, g, D) float16 memory map over the whole photo, rows from the top, or None.
    rows        (n,) int64: the photos that could be read.
    unreadable  names of those that could not.
    """

    views: np.ndarray | None
    dense: np.ndarray | None
    rows: np.ndarray
    unreadable: list[str]


def grid_boxes(grids: tuple[int, ...]) -> np.ndarray:
    """Cells of every grid in fractions of the square: (V, 4) float32 (x0, y0, x1, y1), grid by grid, row by row."""
    boxes = [(x / g, y / g, (x + 1) / g, (y + 1) / g) for g in grids for y in range(g) for x in range(g)]
    return np.array(boxes, np.float32).reshape(-1, 4)


def cut_views(image: Image.Image, grids: tuple[int, ...], size_px: int) -> torch.Tensor:
    """The views of a photo: (V, 3, size_px, size_px) float32 RGB in [0, 1]."""
    x0, y0, x1, y1 = centre_square(image.size)
    span = np.array([x1 - x0, y1 - y0] * 2)
    boxes = np.array([x0, y0] * 2) + grid_boxes(grids) * span
    return to_tensor([crop_array(image, box, (size_px, size_px)) for box in boxes])


def dense_map(teacher: Teacher, image: Image.Image, grid: int) -> torch.Tensor:
    """The teacher's dense map of a photo, resampled (area mean, or bilinear if it is coarser) to (grid, grid, D)."""
    height, width = teacher.dense_size(image.size)
    places = teacher.dense(to_tensor([crop_array(image, WHOLE, (height, width))]))
    return F.interpolate(
        places.permute(0, 3, 1, 2), (grid, grid), mode="bilinear", align_corners=False, antialias=True
    )[0].permute(1, 2, 0)


def cache_views(
    photos: PhotoSet, teacher: Teacher, config: ViewConfig, root: str | Path, progress: bool = True
) -> ViewCache:
    """The view cache of (photos, teacher, config) under root; made or completed now if necessary.

    Raises ZerosegError if it is damaged, if no photo can be read, or if the teacher lacks the requested outputs.
    """
    check_dense(teacher, config)
    cache = view_cache(photos, Facts(teacher.fingerprint, teacher.dim), config, root)
    label = f"teacher ({cache.nbytes / 1e9:.2f} GB)"
    with progress_bar(
        label, "row", cache.rows, cache.rows - len(cache.pending()), progress and not cache.complete
    ) as bar:
        fill_views(cache, photos, teacher, config, bar)
    if not len(cache.readable()):
        raise ZerosegError(f"photos: none of the {len(photos)} files in {photos.root} can be read")
    unreadable = [photos.names[row] for row in cache.unreadable()]
    return ViewCache(cache.arrays.get("views"), cache.arrays.get("dense"), cache.readable(), unreadable)


def check_dense(teacher: Teacher, config: ViewConfig) -> None:
    """ZerosegError if dense maps are requested from a teacher that has none."""
    if config.dense_grid and not teacher.has_dense:
        raise ZerosegError(f"teacher {teacher.spec} has no dense maps; use a recipe without them")


class Facts(NamedTuple):
    """The properties of a teacher on which a cache depends: its fingerprint and the size D of its embeddings."""

    fingerprint: dict
    dim: int

    def cache(self, photos: "PhotoSet", config: ViewConfig, root: str | Path) -> RowCache:
        """The cache of photos under root, complete or begun."""
        return view_cache(photos, self, config, root)


def view_cache(photos: PhotoSet, teacher: Facts, config: ViewConfig, root: str | Path) -> RowCache:
    """The cache folder of (photos, teacher, config) under root, complete or begun."""
    arrays = {}
    if config.grids:
        arrays["views"] = ((len(grid_boxes(config.grids)), teacher.dim), "float16")
    if config.dense_grid:
        arrays["dense"] = ((config.dense_grid, config.dense_grid, teacher.dim), "float16")
    key = {
        "photos": photos.fingerprint,
        "teacher": teacher.fingerprint,
        "grids": list(config.grids),
        "dense_grid": config.dense_grid,
    }
    return RowCache(Path(root), "views", key, arrays, len(photos))


def fill_views(cache: RowCache, photos: PhotoSet, teacher: Teacher, config: ViewConfig, bar) -> None:
    """Embed the photos that the cache lacks; bar.update() after each."""

    def embed(row: int) -> dict[str, np.ndarray]:
        image = photos.read(row)
        values = {}
        if config.grids:
            values["views"] = teacher.embed(cut_views(image, config.grids, teacher.view_size)).numpy()
        if config.dense_grid:
            values["dense"] = dense_map(teacher, image, config.dense_grid).numpy()
        return values

    fill(cache, embed, photos, bar)


def fill(cache: RowCache, compute, photos: PhotoSet, bar) -> None:
    """Compute the missing rows of a cache and complete it; bar.update() after each. Finished rows survive a kill.

    compute  row number -> {array name: values}; UnreadablePhoto marks the row as such.
    Prints a note if the folder has a cache of the same kind from other photos.
    """
    if cache.complete:
        return
    try:
        old = other_versions(cache, "photos")
        if old:
            tqdm.write(
                f"the photos in {photos.root} differ from those of {', '.join(old)}: making a new cache (you "
                "may delete the old one)",
                file=sys.stderr,
            )
        for row in cache.pending():
            try:
                cache.write(row, compute(row))
            except UnreadablePhoto:
                cache.skip(row)
            bar.update()
        cache.finish()
    finally:
        cache.close()
