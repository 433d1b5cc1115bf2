"""Pack photos into tar files (webdataset shards): large files that disks and networks read fast, in any order.

    OUT/photos-000000.tar   uncompressed, the photos' own bytes; complete or missing
    OUT/photos-000000.json  its photos, its size, its SHA-256, and the photos that were left out, with the reason
    OUT/index.json          all shards with their counts; written when all are complete
    OUT/bad.txt             the photos that were left out, and why; missing if there are none

A member's name is the photo's path with "_" for the dots of its stem, because webdataset takes the part before the
first dot of a base name as the sample's key. A repeated key gets "_2", "_3", ... The same photos and settings give the
same bytes: members come in the order of the listing and have no time, owner or mode.
"""

import io
import json
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from zeroseg.collection.listing import Photo, SourceGone, read_listed
from zeroseg.collection.plan import Plan
from zeroseg.errors import ZerosegError
from zeroseg.files import remove_leftovers, sha256, whole_file, write_text
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import printable

FORMAT = 1
PHOTOS_PER_SHARD = 1000  # some 100 to 500 MB of photos from phones: what webdataset's authors advise
_AHEAD = 4  # photos that each thread may have read and checked before they are written


@dataclass(frozen=True)
class Packed:
    """Counts: shards, photos in them, their bytes, and bad photos that were left out."""

    shards: int
    photos: int
    bytes: int
    bad: int


def pack(
    plan: Plan, check: bool = True, threads: int = 1, on_photos: Callable[[int], None] = lambda count: None
) -> Packed:
    """Write every missing shard of the plan into the plan's folder; a part of the plan is a shard.

    check      decode every photo, and leave out those that fail; otherwise leave out only unreadable files.
    threads    number of threads that read and decode.
    on_photos  called with the number of photos that are done.
    Raises ZerosegError if no photo of the plan can be read, if a shard cannot be written (the disk is full), or if a
    folder or tar of the plan has disappeared.
    """
    folder = plan.folder
    remove_leftovers(folder)
    documents = []
    with ThreadPoolExecutor(threads) as pool:
        for number in range(plan.parts):
            document = read_shard(folder, number)
            if document is None:
                document = _write_shard(folder, number, plan.part(number), check, pool, threads, on_photos)
            else:
                on_photos(plan.size(number))
            documents.append(document)
    packed = Packed(
        sum(document["photos"] > 0 for document in documents),
        *(sum(document[name] for document in documents) for name in ("photos", "bytes")),
        sum(len(document["bad"]) for document in documents),
    )
    if not packed.photos:
        raise ZerosegError(
            f"{folder}: none of {packed.bad} photos can be read; the first: {': '.join(documents[0]['bad'][0])}"
        )
    _write_bad(folder, documents)
    entries = [
        {"name": shard_file(folder, number).name} | {key: document[key] for key in ("photos", "bytes", "sha256")}
        for number, document in enumerate(documents)
        if document["photos"]
    ]
    write_text(
        folder / "index.json",
        json.dumps({"format": FORMAT, "photos": packed.photos, "shards": entries}, indent=1) + "\n",
    )
    return packed


def shard_file(folder: Path, number: int) -> Path:
    """The path of shard `number`."""
    return folder / f"photos-{number:06}.tar"


def read_shard(folder: Path, number: int) -> dict | None:
    """The description of a complete shard; None for one that is not written yet.

    Raises ZerosegError if the file was changed: its size or its SHA-256 differs.
    """
    path = shard_file(folder, number)
    try:
        document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        found = path.stat().st_size if document["photos"] else 0
    except (OSError, ValueError, KeyError, TypeError):
        return None
    again = "delete it and its .json, and run the command again"
    if found != document["bytes"]:
        raise ZerosegError(f"{path}: has {found} bytes, but {document['bytes']} were written; {again}")
    if found and sha256(path) != document.get("sha256"):
        raise ZerosegError(f"{path}: was changed after it was written (its SHA-256 differs); {again}")
    return document


def _write_shard(
    folder: Path,
    number: int,
    photos: list[Photo],
    check: bool,
    pool: ThreadPoolExecutor,
    threads: int,
    on_photos: Callable[[int], None],
) -> dict:
    path = shard_file(folder, number)
    keys, bad, count = set(), [], 0
    with whole_file(path, durable=True) as partial:
        with open(partial, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for photo, data in zip(photos, _read_ahead(photos, check, pool, threads), strict=True):
                if isinstance(data, str):
                    bad.append([printable(photo.path), data])
                else:
                    member = tarfile.TarInfo(member_name(photo, keys))
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                    tar.members.clear()  # tarfile keeps all it has seen
                    count += 1
                on_photos(1)
        document = {
            "photos": count,
            "bytes": partial.stat().st_size if count else 0,
            "sha256": sha256(partial),
            "bad": bad,
        }
    if not count:  # an archive without members is no shard
        path.unlink()
    write_text(path.with_suffix(".json"), json.dumps(document, indent=1) + "\n", durable=True)
    return document


def _read_ahead(photos: list[Photo], check: bool, pool: ThreadPoolExecutor, threads: int) -> Iterator[bytes | str]:
    """The bytes of each photo, or why it is bad, in order; a few photos at a time are in memory."""
    step = _AHEAD * threads
    for start in range(0, len(photos), step):
        yield from pool.map(lambda photo: _read(photo, check), photos[start : start + step])


def _read(photo: Photo, check: bool) -> bytes | str:
    try:
        data = read_listed(photo)
        if check:
            load_image(data)
        return data if data else "an empty file"
    except SourceGone:
        raise
    except (ZerosegError, OSError, MemoryError) as error:
        return printable(" ".join((str(error).removeprefix("image: ") or "out of memory").split()))


def member_name(photo: Photo, keys: set[str]) -> str:
    """A photo's name in its shard; adds its key to keys."""
    path = printable(photo.path.replace(os.sep, "/")).replace("\\", "_")  # a backslash would make a folder on Windows
    inside = posixpath.join(*(step for step in path.split("/") if step not in ("", ".", "..")))
    base, _, number = inside.rpartition("#")  # a tar's second member of one name
    stem, suffix = posixpath.splitext(base if number.isdecimal() else inside)
    folder, name = posixpath.split(stem)
    wanted = key = posixpath.join(folder, name.replace(".", "_"))
    turn = 1
    while key in keys:
        turn += 1
        key = f"{wanted}_{turn}"
    keys.add(key)
    return key + suffix.lower()


def _write_bad(folder: Path, documents: list[dict]) -> None:
    lines = [f"{path}\t{reason}\n" for document in documents for path, reason in document["bad"]]
    if lines:
        write_text(folder / "bad.txt", "".join(lines))
    else:
        (folder / "bad.txt").unlink(missing_ok=True)


def begin(folder: Path, settings: dict) -> None:
    """Write the settings to the folder; ZerosegError if it has shards with other settings."""
    path = folder / "pack.json"
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any(os.scandir(folder)):
            raise ZerosegError(f"{folder}: is not empty and has no shards; choose another -o") from None
        write_text(path, json.dumps(settings) + "\n")
        return
    except (OSError, ValueError) as error:
        raise ZerosegError(f"{path}: cannot be read ({error}); choose another -o, or delete the folder") from error
    for name, value in settings.items():
        if earlier.get(name) != value:
            raise ZerosegError(
                f"{folder}: was begun with {name.replace('_', ' ')} {earlier.get(name)}, not {value}; "
                "choose another -o, or delete it"
            )
