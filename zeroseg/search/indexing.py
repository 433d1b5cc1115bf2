"""Bring a collection up to date with its folders: encode new files, delete the entries of vanished ones."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.files import write_text
from zeroseg.search.encoding import Batch, EncodedUnit
from zeroseg.search.store import Store
from zeroseg.search.thumbnails import Thumbnail, Thumbnails
from zeroseg.search.units import Key, Unit
from zeroseg.sidecar import Sidecar

BATCH = 16  # most units in a batch
APPEND_IMAGES, APPEND_S = 512, 15.0  # a commit after so many images or seconds, whichever comes first


@dataclass
class Changes:
    """Result of find_changes. todo: units to encode; forget: keys of changed or vanished units; the rest: counts."""

    todo: list[Unit] = field(default_factory=list)
    forget: list[Key] = field(default_factory=list)
    same: int = 0
    changed: int = 0
    vanished: int = 0


def find_changes(units: Iterable[Unit], done: dict[Key, tuple[int, int, int]], roots: Sequence[str]) -> Changes:
    """Compare a listing with the units that are done (key -> size in bytes, mtime in ns, first image).

    roots: real paths of the listed sources; done units elsewhere are left alone.
    A file has changed if its size or modification time differs. Raises ZerosegError if nothing was listed and units are
    done there, because an unmounted disk would empty the collection.
    """
    changes, seen, found = Changes(), set(), 0
    for unit in units:
        found += 1
        if unit.key in seen:
            continue
        seen.add(unit.key)
        before = done.get(unit.key)
        if before is None:
            changes.todo.append(unit)
        elif before[:2] != (unit.bytes, unit.mtime_ns):
            changes.todo.append(unit)
            changes.forget.append(unit.key)
            changes.changed += 1
        else:
            changes.same += 1
    inside = [
        (root.rstrip("/").encode("utf-8", "surrogateescape") + b"/", root.encode("utf-8", "surrogateescape"))
        for root in roots
    ]
    gone = [
        key
        for key in done
        if key not in seen and any(key.file == root or key.file.startswith(below) for below, root in inside)
    ]
    if gone and not found:
        raise ZerosegError(
            f"{', '.join(roots)}: has no photo or video now, but had {len(gone)} before; if a disk is missing, mount "
            "it; if they are really gone, delete the collection"
        )
    changes.vanished = len(gone)
    changes.forget += gone
    return changes


def begin(store: Store, sidecar: Sidecar, model: dict, sources: dict[str, str], every_s: float) -> None:
    """Create the collection, or check that an existing one has the same settings; add the sources to it.

    sources: real path -> name in the collection. Raises ZerosegError if a setting differs.
    """
    if not store.exists:
        store.create(sidecar, {"model": model, "sources": sources, "every_s": every_s})
        return
    about = store.about()
    if about["sidecar"].embedding_space != sidecar.embedding_space:
        raise ZerosegError(
            f"{store.path}: its segments are in the space {about['sidecar'].embedding_space}, this model's in "
            f"{sidecar.embedding_space}; use the model {about['model']['name']}, or another -o"
        )
    if about["model"]["sha256"] != model["sha256"]:
        raise ZerosegError(
            f"{store.path}: was made with another model ({about['model']['name']}, sha256 "
            f"{about['model']['sha256'][:12]}), this is {model['name']}, {model['sha256'][:12]}; use that or another -o"
        )
    if about["every_s"] != every_s:
        raise ZerosegError(f"{store.path}: was made with --every {about['every_s']:g}s; use that or another -o")
    everything = sources | about["sources"]
    if everything != about["sources"]:
        about.pop("format")
        store.describe(about.pop("sidecar"), about | {"sources": everything})


class Appender:
    """Collects encoded units and appends them to the store, some at a time; a unit is never divided."""

    def __init__(self, store: Store):
        self.store, self.image = store, store.next_image()
        self.images = self.bad = 0
        self._waiting: list[EncodedUnit] = []
        self._since = time.monotonic()
        self._thumbnails = None if store.remote else Thumbnails(store.path)

    def add(self, units: Iterable[EncodedUnit]) -> None:
        """Add units; append all waiting ones if there are enough."""
        self._waiting += units
        waiting = sum(len(one.images) for one in self._waiting)
        if waiting >= APPEND_IMAGES or time.monotonic() - self._since >= APPEND_S:
            self.flush()

    def flush(self) -> None:
        """Append the waiting units."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.image = self.store.append(waiting, self.image)
            self._keep_thumbnails(waiting)
        self.images += sum(len(one.images) for one in waiting)
        self.bad += sum(one.error is not None for one in waiting)
        self._since = time.monotonic()

    def _keep_thumbnails(self, units: list[EncodedUnit]) -> None:
        if self._thumbnails is not None:
            self._thumbnails.put(
                Thumbnail(image.sha256, image.position_s, one.unit.bytes, one.unit.mtime_ns, image.thumbnail)
                for one in units
                for image in one.images
                if image.thumbnail is not None
            )


def batches(units: Iterable[Unit], processes: int, count: int) -> Iterator[Batch]:
    """Divide `count` units into batches of at most BATCH, smaller if each process gets few; one per video stretch."""
    size, number, units = max(1, min(BATCH, count // (4 * processes))), 0, iter(units)
    while some := tuple(islice(units, size)):
        photos = tuple(unit for unit in some if not unit.every_s)
        for batch in filter(None, [photos, *((unit,) for unit in some if unit.every_s)]):
            yield Batch(number, batch)
            number += 1


def write_bad(store: Store) -> int:
    """Write bad.txt, a line for each file that could not be encoded; return their number."""
    bad = store.bad()
    if store.remote:
        return len(bad)
    path = Path(store.path) / "bad.txt"
    if bad:
        write_text(path, "".join(f"{name}\t{reason}\n" for name, reason in bad))
    else:
        path.unlink(missing_ok=True)
    return len(bad)


def of_photos(units: Sequence[Unit]) -> tuple[int, int]:
    """Count the (photos, videos) among units."""
    videos = len({unit.photo.file for unit in units if unit.every_s})
    return sum(not unit.every_s for unit in units), videos


def local(store: Store, work: Iterable[Batch], encoder, on_unit: Callable[[int], None]) -> Appender:
    """Encode batches in this process. encoder: an Encoder; on_unit: called with 1 after each unit."""
    appender = Appender(store)
    try:
        for batch in work:
            appender.add(encoder.part(batch, on_photo=lambda: on_unit(1)))
    finally:
        appender.flush()
    return appender
