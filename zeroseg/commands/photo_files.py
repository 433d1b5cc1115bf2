"""The files of zeroseg-infer: the photos that it reads, and the paths of their results.

Results are marked: a PNG by a text entry, the JSON by its keys. A file without the mark belongs to the user: a picture
is a photo, and it is never overwritten.
"""

import glob
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import click

from zeroseg.errors import ZerosegError
from zeroseg.files import RESULT_NAMES, fitting, is_signed_png, json_text, make_folder, refuse_to_replace, whole_file
from zeroseg.live.kinds import without_password
from zeroseg.photos.download import download_picture
from zeroseg.photos.listing import expand, folders, is_photo, photos_in, suffix_of

SUFFIX_OF = {"overlay": RESULT_NAMES["overlay"], "labels": RESULT_NAMES["labels"], "json": ".json"}
CONTACT_NAME = RESULT_NAMES["contact"]
UNREAD = frozenset({".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"})
_FILES_LOOKED_AT = 1000  # of a folder below, which may be the root of all folders


def find_photos(sources: list[str]) -> tuple[list[Path], int]:
    """The photos behind files, folders and globs, each once, in order; and how many sources gave none (reported)."""
    photos, failed = {}, 0
    for source in sources:
        path, problem = Path(source), ""
        if path.is_dir():
            found, rest = photos_in(path), rest_of_folder(path)
            problem = f"{path}: no pictures in this folder{f', but {rest}' if rest else ''}"
            if found and rest:
                click.echo(f"Note: {path}: also has {rest}, which are not read", err=True)
        elif path.exists():
            found = [path]  # reading it says what is wrong with it
        elif glob.has_magic(source):
            found = expand(source)
            problem = f"{source}: no file matches this pattern"
        else:
            found, problem = [], f"{source}: no such file"
        if not found:
            failed += 1
            click.echo(f"Error: {problem}", err=True)
        photos |= {os.path.abspath(photo): photo for photo in found if os.path.abspath(photo) not in photos}
    return list(photos.values()), failed


def local_pictures(sources: list[str], out: Path) -> list[str]:
    """The sources, with each http(s) address of a picture replaced by the file in out that it was loaded to, and each
    file:// address by its path.
    """
    local = []
    for source in sources:
        if source.lower().startswith("file:"):
            local.append(url2pathname(urlsplit(source).path))
            continue
        found = download_picture(source) if source.lower().startswith(("http://", "https://")) else None
        if found is None:
            local.append(source)
            continue
        name, data = found
        make_folder(out)
        path, number = out / fitting(name), 1
        while path.exists() and path.read_bytes() != data:  # the address may show something else each time
            number += 1
            path = out / fitting(f"{Path(name).stem}-{number}{Path(name).suffix}")
        with whole_file(path) as partial:
            partial.write_bytes(data)
        click.echo(f"{without_password(source)}: downloaded to {path}", err=True)
        local.append(str(path))
    return local


def rest_of_folder(folder: Path) -> str:
    """What of a folder is not looked at, and what to do about it: pictures of other kinds, folders with pictures."""
    inside = list(folder.iterdir())
    kinds = Counter(path.suffix.lower() for path in inside if path.suffix.lower() in UNREAD)
    parts = [", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) + " (convert to JPEG first)"]
    below = sum(path.is_dir() and not path.name.startswith(".") and _has_pictures(path) for path in inside)
    folders = f'{below} folder{"s" * (below > 1)} with pictures (for all below: "{folder}/**/*.jpg")'
    return " and ".join(parts * bool(kinds) + [folders] * bool(below))


def _has_pictures(folder: Path) -> bool:
    """Whether there are any, at some depth, that zeroseg did not write."""
    files = (file.path for _, files in folders(folder) for file in files)
    try:
        return any(is_photo(path) or suffix_of(path) in UNREAD for path in islice(files, _FILES_LOOKED_AT))
    except ZerosegError:  # a folder that may not be read: there is nothing to advise
        return False


def is_ours(path: Path) -> bool:
    """Whether an earlier run wrote this file."""
    if path.suffix != ".json":
        return is_signed_png(path)
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"model", "timings_ms"} <= document.keys()


def plan_outputs(photos: list[Path], out: Path, kinds: Iterable[str]) -> dict[Path, dict[str, Path]]:
    """The paths of each photo's results; stems that two photos share are numbered.

    Raises ZerosegError if a file that zeroseg did not write would be overwritten.
    """
    inputs = {os.path.realpath(photo) for photo in photos}
    taken: set[str] = set()
    outputs = {}
    for photo in photos:
        own = fitting(photo.stem, len("-000") + max(map(len, SUFFIX_OF.values())))
        stem, number = own, 1
        while _as_disks_compare(stem) in taken:
            number += 1
            stem = f"{own}-{number}"
        taken.add(_as_disks_compare(stem))
        outputs[photo] = {kind: out / f"{stem}{SUFFIX_OF[kind]}" for kind in kinds if kind in SUFFIX_OF}
    sheet = [out / CONTACT_NAME] if "contact" in kinds else []
    for path in [*(path for files in outputs.values() for path in files.values()), *sheet]:
        if os.path.realpath(path) in inputs:
            raise ZerosegError(f"{path}: is one of the photos and would be overwritten; choose another --out")
        refuse_to_replace(path, is_ours)
    return outputs


def _as_disks_compare(name: str) -> str:
    """Equal for names that are one file on some disk: those of macOS and Windows do not tell a.png from A.png."""
    return unicodedata.normalize("NFC", name).casefold()


def save_json(path: Path, document: dict) -> None:
    """Write JSON."""
    with whole_file(path) as partial:
        partial.write_text(json_text(document, indent=1), encoding="utf-8")
