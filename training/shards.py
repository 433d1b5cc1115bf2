"""Train on photos in shards (tars, as `zeroseg pack` writes them): any number of photos, with bounded memory.

A photo is a number. Its shard and its position in the tar follow from the shards' counts; a process holds only these
and one open window of shards. The order of an epoch is a function of (seed, epoch): the shards are shuffled, each
`window` of consecutive shards is combined, and the photos of a window are shuffled. A step is a position in that order,
and a process takes a slice of the step. So no photo comes twice in an epoch, for any number of processes and workers,
and a run can resume in the middle of an epoch without reading the part before.

Each shard has its own cache of teacher embeddings under cache/SHARD; the checksum of every row is compared at reading.
A shard that has changed (size or modification time) gets a new cache; one that changes during a run ends the run.
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zeroseg.collection.listing import Photo, list_photos
from zeroseg.errors import ZerosegError
from zeroseg.photos.listing import is_photo
from zeroseg.training.photos import PIXELS, read_photo
from zeroseg.training.processes import Processes
from zeroseg.training.progress import progress_bar
from zeroseg.training.recipes import TrainConfig, ViewConfig
from zeroseg.training.row_cache import RowCache
from zeroseg.training.teacher import Teacher
from zeroseg.training.views import Facts, check_dense, fill_views


@dataclass(frozen=True)
class Shard:
    """path; size in bytes and modification time when it was listed; count of its photos."""

    path: Path
    size: int
    mtime_ns: int
    count: int

    @property
    def fingerprint(self) -> str:
        """Hex digest of name, size and time."""
        return hashlib.sha256(os.fsencode(f"{PIXELS}{self.path.name}\0{self.size}\0{self.mtime_ns}\n")).hexdigest()


class ShardPhotos:
    """The photos of one shard, with the interface of PhotoSet."""

    def __init__(self, shard: Shard):
        """ZerosegError if the shard is not as it was listed."""
        found = shard.path.stat() if shard.path.is_file() else None
        if found is None or (found.st_size, found.st_mtime_ns) != (shard.size, shard.mtime_ns):
            raise ZerosegError(f"shard {shard.path}: changed since this run began; start another run")
        self.root, self.fingerprint = shard.path, shard.fingerprint
        self.photos: list[Photo] = list(list_photos([shard.path]))
        if len(self.photos) != shard.count:
            raise ZerosegError(
                f"shard {shard.path}: {shard.path.with_suffix('.json').name} lists {shard.count} photos, but "
                f"the shard has {len(self.photos)}; pack it again or delete that file"
            )

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(photo.path for photo in self.photos)

    def read(self, index: int) -> Image.Image:
        """Photo number index of the shard; UnreadablePhoto if it cannot be decoded."""
        return read_photo(self.photos[index])


class ShardSet:
    """All shards of a folder, with consecutive photo numbers and the interface of PhotoSet.

    counts       (S,) int64: photos of each shard; starts (S + 1,) int64: the numbers they begin at.
    fingerprint  hex digest of the shards' names, sizes and times.
    """

    def __init__(self, root: Path, shards: list[Shard], kept: int):
        """kept: how many shards stay open at a time."""
        self.root, self.shards, self.kept = root, shards, kept
        self.counts = np.array([shard.count for shard in shards], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)])
        digest = hashlib.sha256("".join(shard.fingerprint for shard in shards).encode())
        self.fingerprint = digest.hexdigest()
        self._open: OrderedDict[int, ShardPhotos] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def open(self, number: int) -> ShardPhotos:
        """The photos of a shard."""
        return _kept(self._open, number, lambda: ShardPhotos(self.shards[number]), self.kept)

    def place(self, index: int) -> tuple[int, int]:
        """(shard, index in it) of a photo."""
        shard = int(np.searchsorted(self.starts, index, "right")) - 1
        return shard, int(index - self.starts[shard])

    def read(self, index: int) -> Image.Image:
        """Photo number index of all; UnreadablePhoto if it cannot be decoded."""
        shard, place = self.place(index)
        return self.open(shard).read(place)


def holds_shards(root: str | Path) -> bool:
    """Whether a folder has tars directly in it."""
    return os.path.isdir(root) and any(_is_tar(name) for name in os.listdir(root))


def find_shards(root: str | Path, kept: int) -> ShardSet:
    """The shards of a folder in the order of their names. ZerosegError if it also has photos, or if the shards have
    none.
    """
    root, shards = Path(root), []
    names = sorted(os.listdir(root))
    loose = [name for name in names if not name.startswith(".") and is_photo(root / name)]
    if loose:
        raise ZerosegError(
            f"photos: {root} has both shards and photos such as {loose[0]}; put them into separate folders"
        )
    for path in (root / name for name in names if _is_tar(name)):
        stat = path.stat()
        shards.append(Shard(path, stat.st_size, stat.st_mtime_ns, _count(path, stat.st_size)))
    if not sum(shard.count for shard in shards):
        raise ZerosegError(f"photos: no photo in the {len(shards)} shards of {root}")
    return ShardSet(root, shards, kept)


class ShardCache:
    """The teacher's embeddings of all shards, with the interface of ViewCache.

    views, dense  as in ViewCache, indexed by (n,) int64 photo numbers; None if not cached.
    readable      (S,) int64: how many photos of each shard could be read.
    """

    def __init__(self, photos: ShardSet, facts: "Facts | TargetFacts", config: ViewConfig, root: str | Path):
        self.photos, self.facts, self.config, self.root = photos, facts, config, Path(root)
        self.views = _Gathered(self, "views") if config.grids else None
        self.dense = _Gathered(self, "dense") if config.dense_grid else None
        self.readable = np.zeros(len(photos.shards), np.int64)
        self._open: OrderedDict[int, RowCache] = OrderedDict()

    def folder(self, number: int) -> Path:
        """Where the caches of a shard are."""
        return self.root / self.photos.shards[number].path.stem

    def open(self, number: int) -> RowCache:
        """The cache of a shard, its index and a sample of its rows validated."""
        return _kept(
            self._open,
            number,
            lambda: self.facts.cache(self.photos.open(number), self.config, self.folder(number)),
            self.photos.kept,
        )


class _Gathered:
    """One array of a ShardCache, row by row."""

    def __init__(self, cache: ShardCache, name: str):
        self.cache, self.name = cache, name

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        result = []
        for row in rows:
            shard, place = self.cache.photos.place(row)
            cache = self.cache.open(shard)
            cache.check(place)
            result.append(cache.arrays[self.name][place])
        return np.stack(result)


class TargetFacts(NamedTuple):
    """As Facts, of the targets that a teacher makes together with helpers: zeroseg.training.teachers.cache."""

    key: dict
    dim: int

    def cache(self, photos: ShardPhotos, config: ViewConfig, root: str | Path) -> RowCache:
        """The cache of a shard's targets under root, complete or begun."""
        arrays = {"dense": ((config.dense_grid, config.dense_grid, self.dim), "float16")}
        return RowCache(Path(root), "targets", {"photos": photos.fingerprint} | self.key, arrays, len(photos))


def cache_shards(
    photos: ShardSet,
    teacher: Teacher,
    config: ViewConfig,
    root: str | Path,
    processes: Processes,
    progress: bool = True,
    helped: TrainConfig | None = None,
    threads: int = 1,
) -> ShardCache:
    """The teacher's embeddings of every shard under root; missing ones are computed now by all processes together.

    helped   the run's settings, if helper teachers improve the dense targets: then these targets are cached.
    threads  photos in work at once, with helped.
    With several machines, all must see root. Raises ZerosegError as cache_views does.
    """
    check_dense(teacher, config)
    facts, fill = Facts(teacher.fingerprint, teacher.dim), None
    if helped is not None:
        facts, fill = _helped(teacher, helped, threads)
    result = ShardCache(photos, facts, config, root)
    mine = range(processes.rank, len(photos.shards), processes.count)
    total = int(photos.counts[mine.start :: mine.step].sum())
    with progress_bar("teacher", "photo", total, 0, progress and processes.first) as bar:
        for number in mine:
            cache = facts.cache(photos.open(number), config, result.folder(number))
            before = len(cache.pending())
            if fill:
                fill(cache, photos.open(number), bar)
            else:
                fill_views(cache, photos.open(number), teacher, config, bar)
            bar.update(len(photos.open(number)) - before)
            result.readable[number] = len(cache.readable())
    result.readable = processes.total(result.readable)
    return result


def _helped(teacher: Teacher, config: TrainConfig, threads: int):
    """(facts, fill(cache, photos, bar)) of targets; the teachers' own answers are not kept, which would take as much
    room again.
    """
    from zeroseg.training.teachers.cache import Step, TargetMaker, fill_together

    if config.views.grids:
        raise ZerosegError("views.grids: helper teachers improve dense maps alone; set views.grids=[]")
    maker = TargetMaker(teacher, config)

    def fill(cache: RowCache, photos: ShardPhotos, bar) -> None:
        try:
            step = Step("targets", cache, maker.at_once)
            fill_together([step], photos, config.seed, threads, progress=False, done_one=bar.update)
        finally:
            cache.close()

    return TargetFacts(maker.key, teacher.dim), fill


class ShardOrder:
    """The photos of each step, each at most once per epoch; an incomplete last batch is dropped. len() is the number of
    training photos; `held_out` (n,) int64 are the others.
    """

    def __init__(self, cache: ShardCache, config: TrainConfig):
        """ZerosegError where there are fewer photos than one batch."""
        readable = cache.readable
        total = int(readable.sum())
        count = min(config.val_photos, max(1, total // 10), total - 1)
        self.batch, self.seed, self.window = config.batch, config.seed, config.shuffle_shards
        self._held: dict[int, list[int]] = {}
        ends = np.cumsum(readable)
        drawn = np.random.default_rng([config.seed, 6]).choice(total, count, replace=False) if count > 0 else []
        for nth in np.sort(drawn):
            shard = int(np.searchsorted(ends, nth, "right"))
            self._held.setdefault(shard, []).append(int(nth - ends[shard] + readable[shard]))
        self.counts = readable.copy()
        for shard, places in self._held.items():
            self.counts[shard] -= len(places)
        if len(self) < self.batch:
            raise ZerosegError(
                f"batch: {self.batch} photos a step, but the shards have {len(self)} to train on; "
                "choose a smaller --batch"
            )
        self.per_epoch = len(self) // self.batch
        self.cache = cache
        self._orders: OrderedDict[int, tuple] = OrderedDict()
        self._windows: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        held = [self._rows(shard)[1] for shard in sorted(self._held)]
        self.held_out = np.concatenate(held) if held else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def __getitem__(self, step: int) -> tuple[int, np.ndarray]:
        """(0, (batch,) int64 photo numbers) of a step."""
        epoch, place = divmod(step, self.per_epoch)
        _, ends = _kept(self._orders, epoch, lambda: self._order(epoch), 2)
        start, stop, parts = place * self.batch, (place + 1) * self.batch, []
        while start < stop:
            window = int(np.searchsorted(ends, start, "right"))
            rows = _kept(self._windows, (epoch, window), lambda: self._window(epoch, window), 2)  # noqa: B023 at once
            inside = start - (int(ends[window - 1]) if window else 0)
            parts.append(rows[inside : inside + stop - start])
            start += len(parts[-1])
        return 0, np.concatenate(parts)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The shards of an epoch in their order, and where each window of them ends."""
        order = np.random.default_rng([self.seed, 7, epoch]).permutation(len(self.counts))
        ends = np.cumsum(self.counts[order])
        last = np.minimum(np.arange(self.window, len(order) + self.window, self.window), len(order)) - 1
        return order, ends[last]

    def _window(self, epoch: int, window: int) -> np.ndarray:
        order, _ = self._orders[epoch]
        shards = order[window * self.window : (window + 1) * self.window]
        rows = np.concatenate([self._rows(int(shard))[0] for shard in shards])
        return np.random.default_rng([self.seed, 8, epoch, window]).permutation(rows)

    def _rows(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """(photo numbers to train on, those held out) of a shard."""
        rows = self.cache.open(shard).readable() + self.cache.photos.starts[shard]
        held = self._held.get(shard, [])
        return np.delete(rows, held), rows[held]


def _kept(opened: OrderedDict, key, make: Callable, most: int):
    """opened[key], made where it is missing; the `most` used last are kept."""
    if key not in opened:
        opened[key] = make()
        while len(opened) > most:
            opened.popitem(last=False)
    opened.move_to_end(key)
    return opened[key]


def _is_tar(name: str) -> bool:
    return name.lower().endswith(".tar") and not name.startswith(".")


def _count(path: Path, size: int) -> int:
    """Photos of a shard: what `zeroseg pack` says of it, or counted."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if about["bytes"] == size:
            return int(about["photos"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return sum(1 for _ in list_photos([path]))
