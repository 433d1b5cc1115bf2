"""Writing: folders made, files that are there whole or not at all, and one clear line where that fails.

PNG files say that zeroseg wrote them. One that does not is the user's, and nothing is written over it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zeroseg.errors import ZerosegError

if TYPE_CHECKING:
    from PIL import Image

NAME_BYTES = 255  # of a file's name, on the file systems of Linux, macOS and (in UTF-16) Windows
PNG_LEVEL = 1  # zlib's fastest: a third of the time and a third more room than level 6
_SOFTWARE = ("Software", "zeroseg")  # a text chunk that Pillow writes ahead of the pixels
_HEAD_BYTES = 4096
RESULT_NAMES = {"overlay": "_overlay.png", "labels": "_labels.png", "contact": "contact.png"}  # how their names end


def make_folder(path: Path, option: str = "--out") -> None:
    """Make a folder and those above it, unless it is there. Raises ZerosegError, naming the option it came from."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ZerosegError(f"{option} {path}: cannot be made (it is there, and no folder)") from None
    except OSError as error:
        raise ZerosegError(f"{option} {path}: cannot be made ({error.strerror})") from error


def fitting(name: str, more: int = 0) -> str:
    """A file's name as it is or, where a file system has no room for it, its beginning, a digest of it and its suffix.

    more  bytes that are to be added to it.
    """
    room = NAME_BYTES - more
    if len(os.fsencode(name)) <= room:
        return name
    stem, suffix = os.path.splitext(name)
    end = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{suffix if len(suffix) < 16 else ''}"
    while len(os.fsencode(stem + end)) > room:
        stem = stem[:-1]
    return stem + end


def partial_path(path: Path) -> Path:
    """Where a file is written until it is whole: beside its place, hidden, with its suffix."""
    name = fitting(path.name, len("..partial"))
    stem, suffix = os.path.splitext(name)
    return path.with_name(f".{stem}.partial{suffix}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes path when all went well. Raises ZerosegError, naming path, where it fails."""
    partial = partial_path(path)
    try:
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ZerosegError(f"{path}: cannot be written ({error.strerror or error})") from error


def json_text(document, encoding: str = "utf-8", indent: int | None = None) -> str:
    """JSON that can be written in an encoding: characters as they are where it has them all, else as \\u escapes."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent)
    return text


def save_png(path: Path, picture: "Image.Image") -> None:
    """Write a signed PNG. Raises ZerosegError where it would be written over a file that is none."""
    from PIL.PngImagePlugin import PngInfo

    refuse_to_replace(path, is_signed_png)
    signature = PngInfo()
    signature.add_text(*_SOFTWARE)
    with whole_file(path) as partial:
        picture.save(partial, format="PNG", compress_level=PNG_LEVEL, pnginfo=signature)


def is_signed_png(path: str | os.PathLike) -> bool:
    """Whether zeroseg wrote this file; what cannot be read is not ours to lose."""
    try:
        with open(path, "rb") as file:
            return b"tEXt" + "\0".join(_SOFTWARE).encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def is_result(path: str | os.PathLike) -> bool:
    """is_signed_png() for many files, of which those that have no result's name need not be opened."""
    return os.fspath(path).endswith(tuple(RESULT_NAMES.values())) and is_signed_png(path)


def refuse_to_replace(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Raise ZerosegError where there is a file and it is not ours."""
    if os.path.lexists(path) and not is_ours(path):
        raise ZerosegError(f"{path}: is not zeroseg's and would be overwritten; choose another --out")
