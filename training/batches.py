"""Training batches as a pure function of (seed, step): resuming or adding processes does not change them."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training.crops import Crop, cut_crop, draw_crop, sample_places
from zeroseg.training.photos import PhotoSet, centre_square
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.shards import ShardOrder
from zeroseg.training.stem_cache import StemBucket
from zeroseg.training.teacher import to_tensor
from zeroseg.training.views import ViewCache, grid_boxes


@dataclass(frozen=True)
class Batch:
    """image (B, 3, H, W) float32 normalised, or None; stem (fine, coarse) float32, or None; views (B, V, D) float32,
    or None; dense (B, L, D) float32 targets at the tokens' centres, row by row, or None; grid (h, w) of the tokens.
    """

    image: torch.Tensor | None
    stem: tuple[torch.Tensor, torch.Tensor] | None
    views: torch.Tensor | None
    dense: torch.Tensor | None
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.image if self.image is not None else self.stem[0])

    def part(self, start: int, stop: int) -> "Batch":
        """Photos start to stop."""
        return self._map(lambda x: x[start:stop])

    def to(self, device) -> "Batch":
        return self._map(lambda x: x.to(device, non_blocking=True))

    def with_dense(self, dense: torch.Tensor) -> "Batch":
        return replace(self, dense=dense)

    def _map(self, change) -> "Batch":
        fields = (self.image, self.views, self.dense)
        image, views, dense = (None if x is None else change(x) for x in fields)
        return Batch(image, self.stem and tuple(map(change, self.stem)), views, dense, self.grid)


class Schedule:
    """Which rows of which bucket each step takes. Every pass over a bucket has a new order.

    Buckets are drawn in proportion to their rows; a bucket smaller than a batch gives rows more than once.
    """

    def __init__(self, bucket_rows: list[np.ndarray], batch: int, steps: int, seed: int):
        self.rows, self.batch, self.seed = bucket_rows, batch, seed
        counts = np.array([len(rows) for rows in bucket_rows], float)
        rng = np.random.default_rng([seed, 2])
        self.bucket = rng.choice(len(counts), size=steps, p=counts / counts.sum())
        self.turn = np.zeros(steps, np.int64)  # how many batches of its bucket came before
        for b in range(len(counts)):
            mine = self.bucket == b
            self.turn[mine] = np.arange(mine.sum())

    def __getitem__(self, step: int) -> tuple[int, np.ndarray]:
        """(bucket, (batch,) int64 rows) of a step."""
        bucket = int(self.bucket[step])
        rows = self.rows[bucket]
        first = int(self.turn[step]) * self.batch
        wanted = np.arange(first, first + self.batch)
        result = np.empty(self.batch, np.int64)
        for lap in np.unique(wanted // len(rows)):
            order = np.random.default_rng([self.seed, 3, bucket, int(lap)]).permutation(len(rows))
            mine = wanted // len(rows) == lap
            result[mine] = rows[order[wanted[mine] % len(rows)]]
        return bucket, result


class TrainingSet(torch.utils.data.Dataset):
    """Item number `step` is this process's share of that step's batch."""

    def __init__(
        self,
        photos: PhotoSet,
        cache: ViewCache,
        rows: np.ndarray | ShardOrder,
        config: TrainConfig,
        steps: int,
        patch: int,
        stem: list[StemBucket] | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        """rows   (n,) int64: the photos to train on; of shards, their order.
        patch  px between the student's tokens.
        stem   cached stem features, or None: photos are decoded in training.
        """
        self.photos, self.cache, self.config, self.patch, self.stem = photos, cache, config, patch, stem
        buckets = [rows]
        if stem is not None:
            wanted = np.zeros(len(photos), bool)
            wanted[rows] = True
            buckets = [bucket.rows[wanted[bucket.photo[bucket.rows]]] for bucket in stem]
        self.steps = steps
        sharded = isinstance(rows, ShardOrder)
        self.schedule = rows if sharded else Schedule(buckets, config.batch, steps, config.seed)
        share = config.batch // world
        self.mine = slice(rank * share, (rank + 1) * share)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        bucket, rows = self.schedule[step]
        if self.stem is not None:
            mirror = self.config.stem_flips and np.random.default_rng([self.config.seed, 8, step]).random() < 0.5
            return self._cached(self.stem[bucket], rows[self.mine], mirror)
        return self._decoded(step, rows)

    def _decoded(self, step: int, rows: np.ndarray) -> Batch:
        config = self.config
        random = config.augment == "crops"
        number = np.random.default_rng([config.seed, 4, step]).integers(len(config.crops.sizes)) if random else 0
        size = config.crops.sizes[number]
        pixels, boxes, flips = [], [], []
        for place in range(len(rows))[self.mine]:
            image = self.photos.read(int(rows[place]))
            if random:
                crop = draw_crop(np.random.default_rng([config.seed, 5, step, place]), image.size, size, config.crops)
            else:
                crop = Crop(centre_square(image.size), False, (1.0, 1.0, 1.0))
            pixels.append(cut_crop(image, crop, size))
            boxes.append(crop.box)
            flips.append(crop.flip)
        image = (to_tensor(pixels) - self.mean) / self.std
        grid = (size[0] // self.patch, size[1] // self.patch)
        return Batch(
            image,
            None,
            *self._targets(rows[self.mine], torch.tensor(boxes, dtype=torch.float32), torch.tensor(flips), grid),
            grid,
        )

    def _cached(self, bucket: StemBucket, rows: np.ndarray, mirror: bool = False) -> Batch:
        """mirror: features and targets left to right, which is nearly what the stem would say of mirrored photos."""
        fine, coarse = (torch.from_numpy(maps[rows].astype(np.float32)) for maps in (bucket.fine, bucket.coarse))
        grid = tuple(fine.shape[2:])
        boxes, flips = torch.from_numpy(bucket.box[rows]), torch.from_numpy(bucket.flip[rows] > 0)
        if mirror:
            fine, coarse, flips = fine.flip(3), coarse.flip(3), ~flips
        return Batch(None, (fine, coarse), *self._targets(bucket.photo[rows], boxes, flips, grid), grid)

    def _targets(self, photo: np.ndarray, boxes: torch.Tensor, flips: torch.Tensor, grid: tuple[int, int]):
        views = dense = None
        if self.cache.views is not None:
            views = torch.from_numpy(self.cache.views[photo].astype(np.float32))
        if self.cache.dense is not None:
            dense = sample_places(torch.from_numpy(self.cache.dense[photo]), boxes, flips, grid)
        return views, dense


def random_batch(config: TrainConfig, student: ZeroSeg, count: int) -> Batch:
    """`count` random photos, and targets of the shapes that the recipe gives them."""
    model, (height, width) = student.config, config.crops.sizes[0]
    grid = (height // model.patch_size, width // model.patch_size)
    image, stem = torch.randn(count, 3, height, width), None
    if config.stem_views:
        image, stem = (
            None,
            tuple(
                torch.randn(count, channels, height // stride, width // stride)
                for channels, stride in ((student.stem.fine_channels, 16), (student.stem.coarse_channels, 32))
            ),
        )
    dim = model.embedding_dim
    views = torch.randn(count, len(grid_boxes(config.views.grids)), dim) if config.views.grids else None
    dense = torch.randn(count, grid[0] * grid[1], dim) if config.views.dense_grid else None
    return Batch(image, stem, views, dense, grid)


def validation_batch(photos: PhotoSet, cache: ViewCache, rows: np.ndarray, config: TrainConfig, patch: int) -> Batch:
    """The held-out photos: the centre square of each at the first crop size, with its targets."""
    plain = replace(config, augment="centre", batch=len(rows), stem_views=0)
    data = TrainingSet(photos, cache, rows, plain, 1, patch)
    return data._decoded(0, rows)


def split_rows(rows: np.ndarray, val_photos: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(training rows, held-out rows), both ascending; at most a tenth of the photos is held out, but at least one."""
    count = min(val_photos, max(1, len(rows) // 10), len(rows) - 1)
    held = np.random.default_rng([seed, 6]).choice(len(rows), size=count, replace=False)
    mask = np.zeros(len(rows), bool)
    mask[held] = True
    return rows[~mask], rows[mask]
