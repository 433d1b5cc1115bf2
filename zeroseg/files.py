"""Writing: folders made, files that are there whole or not at all, and one clear line where that fails.

PNG files say that zeroseg wrote them. One that does not is the user's, and nothing is written over it.
"""

import hashlib
import json
import os
import secrets
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
_PARTIAL = ".partial"


def make_folder(path: Path, option: str = "--out") -> None:
    """Make a folder and those above it, unless it is there. Raises ZerosegError, naming the option it came from."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ZerosegError(f"{option} {path}: cannot be created (it exists and is not a folder)") from error
    except OSError as error:
        raise ZerosegError(f"{option} {path}: cannot be created ({error.strerror})") from error


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
def whole_file(path: Path, durable: bool = False, suffix: str = "") -> Iterator[Path]:
    """A place to write to, which becomes path when all went well.

    durable  the file is on the disk, and not in memory alone, when this returns: it outlives a power cut.
    suffix   of the place, for programs that choose a format by it.
    Raises ZerosegError, naming path, where it cannot be written.

    The place's name is random, since several machines may write into one folder. A process that is killed leaves it
    behind; remove_leftovers takes it away.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}{_PARTIAL}{suffix}")
    try:
        try:
            yield partial
            if durable:
                _flush(partial)
            partial.replace(path)
            if durable:
                _flush(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is not None and str(error.filename) not in map(str, (partial, path, path.parent)):
            raise  # of another file, which was being read
        raise ZerosegError(f"{path}: cannot be written ({error.strerror or error})") from error


def json_text(document, encoding: str = "utf-8", indent: int | None = None) -> str:
    """JSON that can be written in an encoding: characters as they are where it has them all, else as \\u escapes."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent)
    return text


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write UTF-8 text so that the file is there whole or not at all; raises as whole_file."""
    with whole_file(path, durable) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing in a folder; nobody else may be writing there."""
    for leftover in folder.glob(f".*{_PARTIAL}*"):
        leftover.unlink(missing_ok=True)


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of a file, read a megabyte at a time. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folder and keeps its names by itself
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        raise ZerosegError(f"{path}: was not written by zeroseg and would be overwritten; choose another --out")
