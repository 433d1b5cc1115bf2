"""Find photos: one set of suffixes and one walk, for every command and for training.

Hidden files and folders (their names begin with a dot) are left out, and so are pictures that zeroseg wrote. Links to
folders are followed, but each folder (identified by device and inode) is read only once. So loops of links end, and a
photo is listed under its real path, if the walk reaches that path without a link.
"""

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.files import is_result

SUFFIXES = frozenset(
    ".apng .avif .bmp .dib .gif .ico .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tga .tif .tiff "
    ".webp".split()
)
LISTED_AT_ONCE = 65_536  # entries of one folder that are sorted together; a larger folder comes in sorted runs


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, such as ".jpg"."""
    return os.path.splitext(name)[1].lower()


def is_photo(name: str | os.PathLike) -> bool:
    """Whether a file is a photo by its name and not a result of zeroseg; possible results are opened."""
    return suffix_of(os.fspath(name)) in SUFFIXES and not is_result(name)


def photos_in(folder: str | os.PathLike) -> list[Path]:
    """The photos directly in a folder, sorted by name. Raises ZerosegError if the folder cannot be read."""
    _, files = next(folders(folder))
    return sorted(Path(file.path) for file in files if is_photo(file.path))


def photos_below(root: str | os.PathLike, seen: set | None = None) -> Iterator[os.DirEntry]:
    """The photos in a folder and its subfolders; seen as in folders()."""
    for _, files in folders(root, seen):
        yield from (file for file in files if is_photo(file.path))


def folders(root: str | os.PathLike, seen: set | None = None) -> Iterator[tuple[str, Iterator[os.DirEntry]]]:
    """(folder, its visible files in the order of their names) for root and every visible folder below it.

    Folders come in the order of their names, each before its subfolders; those behind links come last. Paths begin with
    root. The files of a folder must be consumed before the next folder is requested.

    seen  (device, inode) of folders to skip; folders that are read are added.
    Raises ZerosegError if a folder cannot be read.
    """
    seen = set() if seen is None else seen
    stack, links = [os.fspath(root)], deque()
    while stack or links:
        folder = stack.pop() if stack else links.popleft()
        identity = identity_of(folder)
        if identity in seen:
            continue
        seen.add(identity)
        below: list[str] = []
        files = _files(folder, below, links)
        yield folder, files
        for _ in files:  # files that the caller did not read; the walk finds the folders below on the way
            pass
        stack += sorted(below, reverse=True)


def identity_of(folder: str | os.PathLike) -> tuple[int, int]:
    """(device, inode), which identifies a folder under any name. Raises ZerosegError if it does not exist."""
    try:
        about = os.stat(folder)
    except OSError as error:
        raise ZerosegError(f"{os.fspath(folder)}: cannot be read ({error.strerror or error})") from error
    return about.st_dev, about.st_ino


def _files(folder: str, below: list[str], links: deque) -> Iterator[os.DirEntry]:
    """Yield the visible files of a folder; append its folders to below, and links to folders to links."""
    try:
        entries = os.scandir(folder)
    except OSError as error:
        raise ZerosegError(f"{folder}: cannot be read ({error.strerror or error})") from error
    with entries:
        visible = (entry for entry in entries if not entry.name.startswith("."))
        while batch := sorted(islice(visible, LISTED_AT_ONCE), key=lambda entry: entry.name):
            for entry in batch:
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError:  # a link to itself, or to a place without permission
                    continue
                if is_folder:
                    (links if entry.is_symlink() else below).append(entry.path)
                elif is_file:
                    yield entry


def expand(pattern: str) -> list[Path]:
    """The files that match a glob pattern, in which "**" stands for any visible folders; sorted, each once.

    Folders at its start that exist under exactly that name are not a pattern: "[2024] Rome/*.jpg".
    """
    steps = list(Path(pattern).parts)
    there = next((i for i in range(len(steps) - 1, 0, -1) if os.path.isdir(os.path.join(*steps[:i]))), 0)
    steps[:there] = map(glob.escape, steps[:there])
    if "**" not in steps:
        return sorted(path for path in map(Path, glob.glob(os.path.join("", *steps))) if path.is_file())
    at = steps.index("**")
    head, tail = os.path.join("", *steps[:at]), os.path.join("", *steps[at + 1 :]) or "*"
    roots = [root for root in glob.glob(head) if os.path.isdir(root)] if head else [os.curdir]
    below = (folder for root in roots for folder, _ in folders(root))
    return sorted({path for folder in below for path in expand(os.path.join(glob.escape(folder), tail))})


def name_below(root: str | os.PathLike, path: str) -> str:
    """The name of a walk's entry relative to the walk's root, with forward slashes."""
    return path[len(os.fspath(root)) :].lstrip(os.sep).replace(os.sep, "/")


def printable(name: str) -> str:
    """A file's name as text for any file format; bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def identities(paths: Iterable[str | os.PathLike]) -> set[tuple[int, int]]:
    """The identities of those paths that exist, for the argument `seen` of folders()."""
    return {identity_of(path) for path in paths if os.path.exists(path)}
