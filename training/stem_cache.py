"""Cache the features of a frozen convolutional stem for V random crops per photo, so that only the head is trained.

Each crop is drawn from (seed, photo, v), so the whole plan is known before the first photo is decoded. Each crop size
has its own cache, so a training batch is a slice with equal shapes.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from zeroseg.training.crops import cut_crop, draw_crop
from zeroseg.training.forward import FrozenForward
from zeroseg.training.photos import PhotoSet
from zeroseg.training.progress import progress_bar
from zeroseg.training.recipes import CropConfig
from zeroseg.training.row_cache import RowCache, digest
from zeroseg.training.teacher import to_tensor
from zeroseg.training.views import fill

MULTIPLE = 32  # sides of crops, px: the stem's coarsest stride


@dataclass(frozen=True)
class StemBucket:
    """Cached crops of one size.

    size     (H, W) px.
    photo    (R,) int64: the photo of each crop, ascending.
    fine     (R, Cf, H/16, W/16) float16 memory map; coarse (R, Cc, H/32, W/32) the same.
    box      (R, 4) float32 memory map, fractions of the photo; flip (R,) uint8.
    rows     (n,) int64: the crops whose photo could be read.
    """

    size: tuple[int, int]
    photo: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    box: np.ndarray
    flip: np.ndarray
    rows: np.ndarray


def plan_sizes(photo_count: int, per_photo: int, config: CropConfig, seed: int) -> np.ndarray:
    """Which size each crop gets: (photo_count, per_photo) int64 indices into config.sizes."""
    return np.random.default_rng([seed, 0]).integers(len(config.sizes), size=(photo_count, per_photo))


def cache_stem(
    photos: PhotoSet,
    stem: torch.nn.Module,
    mean,
    std,
    per_photo: int,
    config: CropConfig,
    seed: int,
    root: str | Path,
    fingerprint: str,
    impl: str = "auto",
    progress: bool = True,
    rows: np.ndarray | None = None,
) -> list[StemBucket]:
    """The stem caches of per_photo random crops of every photo, one bucket per size; missing ones are made now.

    stem         image (B, 3, H, W) -> (fine, coarse).
    mean, std    three numbers each: the stem sees (x - mean) / std, x RGB in [0, 1].
    fingerprint  equal for stems with equal weights.
    rows         the photos to cache, ascending; None: all.
    """
    sizes = plan_sizes(len(photos), per_photo, config, seed)
    run, buckets = None, []
    stem.eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    with torch.no_grad():
        shapes = [output.shape[1] for output in stem(torch.zeros(1, 3, MULTIPLE, MULTIPLE))]
    for number, (height, width) in enumerate(config.sizes):
        photo, version = np.nonzero(sizes == number)
        if rows is not None and len(rows) < len(photos):
            wanted = np.isin(photo, rows)
            photo, version = photo[wanted], version[wanted]
        if not len(photo):
            continue
        key = {
            "photos": photos.fingerprint,
            "stem": fingerprint,
            "mean": mean.flatten().tolist(),
            "std": std.flatten().tolist(),
            "crops": asdict(config),
            "size": [height, width],
            "seed": seed,
            "per_photo": per_photo,
        }
        if rows is not None and len(rows) < len(photos):
            key["rows"] = digest([int(row) for row in rows])
        arrays = {
            "fine": ((shapes[0], height // 16, width // 16), "float16"),
            "coarse": ((shapes[1], height // 32, width // 32), "float16"),
            "box": ((4,), "float32"),
            "flip": ((), "uint8"),
        }
        cache = RowCache(Path(root), "stem", key, arrays, len(photo))
        if not cache.complete and run is None:
            run = FrozenForward(stem, MULTIPLE, impl)

        def features(row: int, run=run, size=(height, width), photo=photo, version=version) -> dict:
            image = photos.read(photo[row])
            crop = draw_crop(np.random.default_rng([seed, 1, photo[row], version[row]]), image.size, size, config)
            fine, coarse = run((to_tensor([cut_crop(image, crop, size)]) - mean) / std)
            return {
                "fine": fine[0].numpy(),
                "coarse": coarse[0].numpy(),
                "box": np.float32(crop.box),
                "flip": np.uint8(crop.flip),
            }

        label = f"stem {height}x{width} ({cache.nbytes / 1e9:.2f} GB)"
        with progress_bar(
            label, "row", cache.rows, cache.rows - len(cache.pending()), progress and not cache.complete
        ) as bar:
            fill(cache, features, photos, bar)
        buckets.append(
            StemBucket(
                (height, width),
                photo,
                cache.arrays["fine"],
                cache.arrays["coarse"],
                cache.arrays["box"],
                cache.arrays["flip"],
                cache.readable(),
            )
        )
    return buckets
