"""Every teacher once per photo: one cache per teacher, and one of the targets that are made of them.

The photos are taken in a shuffled order, so that what is there when the pass is stopped is a fair sample; a stopped
pass goes on where it was. Each photo is decoded once, and a photo's rows are written in one go.
"""

import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from zeroseg.errors import ZerosegError
from zeroseg.training.photos import PhotoSet, UnreadablePhoto
from zeroseg.training.progress import progress_bar
from zeroseg.training.recipes import TrainConfig
from zeroseg.training.row_cache import RowCache
from zeroseg.training.teacher import Teacher
from zeroseg.training.teachers.build import build_parts, name_vectors
from zeroseg.training.teachers.combine import NameVectors, combine, shrink
from zeroseg.training.views import ViewCache, dense_map


@dataclass(frozen=True)
class Step:
    """One thing to compute of each photo: its cache, and compute(image, photo name, found) -> arrays."""

    name: str
    cache: RowCache
    compute: object


def cache_targets(
    photos: PhotoSet,
    teacher: Teacher,
    config: TrainConfig,
    root: str | Path,
    *,
    threads: int = 1,
    minutes: float | None = None,
    make: bool = True,
    progress: bool = True,
) -> ViewCache:
    """The targets of the photos: made now, or finished, where they are not there yet.

    threads  photos in work at once, each on one CPU thread.
    minutes  stop after that time; what was not reached is left out, and a later call goes on.
    make     False: take what is there, also while another process is adding to it.
    Raises ZerosegError if a cache is damaged or if no photo can be read.
    """
    steps = open_caches(photos, teacher, config, Path(root), as_it_is=not make)
    try:
        if make:
            fill_together(steps, photos, config.seed, threads, minutes, progress)
        targets = steps[-1].cache
        rows, unreadable = targets.readable(), [photos.names[row] for row in targets.unreadable()]
        dense = targets.arrays["dense"]
    finally:
        for step in steps:
            step.cache.close()
    if not len(rows):
        raise ZerosegError(f"photos: no targets are cached of the {len(photos)} files in {photos.root}")
    return ViewCache(None, dense, rows, unreadable)


def open_caches(
    photos: PhotoSet, teacher: Teacher, config: TrainConfig, root: Path, as_it_is: bool = False
) -> list[Step]:
    """A cache for the first teacher's dense map, one for each part, and the last for the targets.

    as_it_is  only the targets', and of them what is there.
    """
    maker = TargetMaker(teacher, config)
    base = {"photos": photos.fingerprint}
    targets = RowCache(root, "targets", base | maker.key, maker.arrays, len(photos), as_it_is)
    last = Step("targets", targets, maker.target)
    if as_it_is:
        return [last]
    key = base | {"teacher": teacher.fingerprint, "grid": maker.grid}
    places = {"places": ((maker.grid, maker.grid, teacher.dim), "float16")}
    steps = [Step("dense", RowCache(root, "dense", key, places, len(photos)), maker.dense)]
    for part in maker.parts:
        key = base | {"part": part.fingerprint}
        steps.append(Step(part.name, RowCache(root, part.name, key, part.arrays, len(photos)), part.compute))
    return [*steps, last]


class TargetMaker:
    """The first teacher, its helpers, and how what they say of a photo becomes its target.

    parts   the helpers, in the order in which they are to be asked. grid  cells per side of the first teacher's map.
    key     JSON-able: all that a target depends on besides the photo. arrays  of one photo's target, for RowCache.
    """

    def __init__(self, teacher: Teacher, config: TrainConfig):
        """ZerosegError if the teacher has no dense maps or a helper is missing."""
        if not teacher.has_dense:
            raise ZerosegError(f"teacher {teacher.spec} has no dense maps; use a recipe without them")
        self.teacher, self.config = teacher, config
        self.parts = build_parts(config, getattr(teacher, "device", "cpu"))
        centre = getattr(teacher, "centre", torch.zeros(teacher.dim))
        spoken = config.parts.detectors or config.parts.streets
        self.names = name_vectors(teacher.space, centre) if spoken else NameVectors(*2 * (torch.zeros(0, teacher.dim),))
        self.grid, cells = config.parts.dense_grid, config.views.dense_grid
        newer = [name for name in ("dino", "stuff") if not getattr(config.parts, name)]  # caches from before stay valid
        left_out = ("weights", *newer)
        settings = asdict(config.parts) | asdict(config.diffusion)
        self.key = {
            "teacher": teacher.fingerprint,
            "parts": [part.fingerprint for part in self.parts],
            "settings": {name: value for name, value in settings.items() if name not in left_out},
        }
        self.arrays = {"dense": ((cells, cells, teacher.dim), "float16")}

    def dense(self, image, name, found) -> dict[str, np.ndarray]:
        """The first teacher's map of a photo."""
        return {"places": dense_map(self.teacher, image, self.grid).numpy()}

    def target(self, image, name, found) -> dict[str, np.ndarray]:
        """The target of a photo from what all teachers said."""
        places = torch.from_numpy(np.asarray(found["dense"]["places"]))
        with torch.no_grad():
            whole = combine(places, found, self.names, self.config.parts, self.config.diffusion)
            return {"dense": shrink(whole, self.config.views.dense_grid).numpy()}

    def at_once(self, image, name, found) -> dict[str, np.ndarray]:
        """The target of a photo, asking every teacher now, rounded as their caches round; only the target is kept."""
        found = {"dense": {key: value.astype(np.float16) for key, value in self.dense(image, name, {}).items()}}
        for part in self.parts:
            said = part.compute(image, name, found)
            found[part.name] = {key: np.asarray(value).astype(part.arrays[key][1]) for key, value in said.items()}
        return self.target(image, name, found)


def fill_together(
    steps: list[Step],
    photos: PhotoSet,
    seed: int = 0,
    threads: int = 1,
    minutes: float | None = None,
    progress: bool = True,
    done_one=None,
) -> None:
    """Fill the caches photo by photo, in the order of a seeded shuffle; complete caches that are full.

    steps     in the order in which they need one another; all caches have a row per photo.
    done_one  called after each photo.
    """
    order = np.random.default_rng([seed, 7]).permutation(len(photos))
    pending = {int(row) for step in steps if not step.cache.complete for row in step.cache.pending()}
    rows = [int(row) for row in order if int(row) in pending]
    end = time.monotonic() + 60 * minutes if minutes else None
    bar = progress_bar("teachers", "photo", len(photos), len(photos) - len(rows), progress and bool(rows))
    lock = threading.Lock()  # one writer: a row's checksum and status belong to its values

    def work(row: int) -> None:
        _fill_row(steps, photos, row, lock)

    with bar, ThreadPoolExecutor(threads) as pool:
        waiting = iter(rows)
        running = set()
        while True:
            while len(running) < 2 * threads and (end is None or time.monotonic() < end):
                row = next(waiting, None)
                if row is None:
                    break
                running.add(pool.submit(work, row))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for task in done:
                task.result()
                bar.update()
                if done_one:
                    done_one()
    for step in steps:
        if not step.cache.complete and not len(step.cache.pending()):
            step.cache.finish()


def _fill_row(steps: list[Step], photos: PhotoSet, row: int, lock: threading.Lock) -> None:
    image, found = None, {}
    try:
        image = photos.read(row)
    except UnreadablePhoto:
        with lock:
            for step in steps:
                if not step.cache.complete:
                    step.cache.skip(row)
        return
    name = photos.names[row]
    for step in steps:
        if step.cache.status[row]:
            found[step.name] = {key: array[row] for key, array in step.cache.arrays.items()}
            continue
        found[step.name] = step.compute(image, name, found)
        with lock:
            step.cache.write(row, found[step.name])
