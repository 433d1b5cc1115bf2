"""The plan of a collection: its photos, listed once on disk in numbered parts, for resuming and sharing the work.

A part is the unit of work, done completely or not at all. The list is written before any work begins, so a photo keeps
its part when a job is stopped and resumed. Memory does not grow with the collection: a process holds one part of the
plan at a time, and eight bytes per part.

plan.jsonl  one line a photo: [path, file] or [path, file, offset, size].
plan.idx    little-endian int64: the offset in plan.jsonl of the first line of each part.
plan.json   counts and sources; written last, so a plan without it was interrupted and is made again.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from zeroseg.collection.listing import Photo, compressed_hint, list_photos
from zeroseg.errors import ZerosegError
from zeroseg.files import whole_file, write_text

FORMAT = 1
_AGAIN = "start again in another folder"
LARGEST_PART = 256  # photos: some ten seconds of one core's work, which is what an interruption can cost


class Plan:
    """An existing plan in a folder. photos, parts: how many there are; part_size: photos in each part but the last."""

    def __init__(self, folder: str | Path):
        """Raises ZerosegError if the folder has no complete plan."""
        self.folder = Path(folder)
        try:
            about = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}")
            self.photos, self.part_size, self.sources = about["photos"], about["part_size"], about["sources"]
            self._offsets = array("q", (self.folder / "plan.idx").read_bytes())
            size = (self.folder / "plan.jsonl").stat().st_size
        except (OSError, ValueError, KeyError) as error:
            raise ZerosegError(f"{self.folder}: has no plan of this version ({error})") from error
        self.parts = -(-self.photos // self.part_size)
        if len(self._offsets) != self.parts:
            raise ZerosegError(f"{self.folder}: plan.idx does not match plan.json; {_AGAIN}")
        if size != about.get("list_bytes", size):  # plans of earlier versions lack it
            raise ZerosegError(
                f"{self.folder / 'plan.jsonl'}: has {size} bytes, but {about['list_bytes']} were written; {_AGAIN}"
            )

    def size(self, part: int) -> int:
        """How many photos a part has."""
        return min(self.part_size, self.photos - part * self.part_size)

    def part(self, number: int) -> list[Photo]:
        """The photos of a part; ZerosegError if the list does not have them all."""
        path, size = self.folder / "plan.jsonl", self.size(number)
        with open(path, "rb") as file:
            file.seek(self._offsets[number])
            lines = list(islice(file, size))
        try:
            if len(lines) != size:
                raise ValueError(f"{len(lines)} of {size} photos are listed")
            return [Photo(*json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise ZerosegError(f"{path}: is damaged or truncated in part {number} ({error}); {_AGAIN}") from error


def open_plan(
    folder: str | Path,
    sources: Iterable[str | Path],
    part_size: int | None = None,
    processes: int = 1,
    on_photo: Callable[[], None] = lambda: None,
) -> Plan:
    """The plan in a folder; made now if there is none.

    part_size  photos per part; None: small enough that each process gets several parts, at most LARGEST_PART.
    on_photo   called for each photo that is listed.
    Raises ZerosegError if there are no photos, or if the folder has a plan of other sources.
    """
    folder = Path(folder)
    given = [os.path.realpath(source) for source in sources]
    if (folder / "plan.json").is_file():
        plan = Plan(folder)
        if plan.sources != given:
            raise ZerosegError(f"{folder}: was begun with {', '.join(plan.sources)}; choose another folder")
        return plan
    count = 0
    with whole_file(folder / "plan.jsonl", durable=True) as partial:
        with open(partial, "wb") as file:
            for photo in list_photos(sources, leave=[folder]):
                entry = photo[:2] if photo.offset is None else photo
                file.write(json.dumps(entry).encode() + b"\n")
                count += 1
                on_photo()
        if not count:
            raise ZerosegError(f"no photo in {', '.join(map(str, sources))}{compressed_hint(given)}")
        part_size = part_size or max(1, min(LARGEST_PART, count // (4 * processes)))
        offsets, list_bytes = _part_offsets(partial, part_size), partial.stat().st_size
    with whole_file(folder / "plan.idx", durable=True) as partial:
        partial.write_bytes(offsets.tobytes())
    about = {
        "format": FORMAT, "photos": count, "part_size": part_size, "list_bytes": list_bytes, "sources": given
    }  # fmt: skip
    write_text(folder / "plan.json", json.dumps(about, indent=1) + "\n", durable=True)
    return Plan(folder)


def _part_offsets(path: Path, part_size: int) -> array:
    """Offsets of the lines 0, part_size, 2 part_size, ..."""
    offsets, place = array("q"), 0
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            if number % part_size == 0:
                offsets.append(place)
            place += len(line)
    return offsets
