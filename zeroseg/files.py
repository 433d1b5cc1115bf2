"""Writing: create folders, write files completely or not at all, and report errors in one clear line.

PNG files contain a mark that zeroseg wrote them. A file without the mark belongs to the user and is never overwritten.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zeroseg.errors import ZerosegError

if TYPE_CHECKING:
    from PIL import Image

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: str | Path) -> str:
    """The text of a small file in UTF-8, or in UTF-16 with its mark, as PowerShell writes it.

    Raises OSError where it cannot be read, and UnicodeDecodeError for another encoding.
    """
    data = Path(path).read_bytes()
    return data.decode("utf-16" if data.startswith(UTF16_MARKS) else "utf-8-sig").replace("\r\n", "\n")


NAME_BYTES = 255  # of a file's name, on the file systems of Linux, macOS and (in UTF-16) Windows
PNG_LEVEL = 1  # zlib's fastest: a third of the time and a third more room than level 6
_SOFTWARE = ("Software", "zeroseg")  # a text chunk that Pillow writes ahead of the pixels
_HEAD_BYTES = 4096
RESULT_NAMES = {"overlay": "_overlay.png", "labels": "_labels.png", "contact": "contact.png"}  # how their names end
_PARTIAL = ".partial"
_REFUSED = re.compile(r'[%:\\<>"|?*\x00-\x1f\x7f]')  # what Windows refuses in names, and "%", which stands for them


def make_folder(path: Path, option: str = "--out") -> None:
    """Make a folder and those above it, unless it is there. Raises ZerosegError, naming the option it came from."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ZerosegError(f"{option} {path}: cannot be created (it exists and is not a folder)") from error
    except OSError as error:
        raise ZerosegError(f"{option} {path}: cannot be created ({error.strerror})") from error


def fitting(name: str, more: int = 0) -> str:
    """A file's name unchanged or, if it is too long for a file system, its beginning, a digest and its suffix.

    more  number of bytes that will be added to it.
    """
    room = NAME_BYTES - more
    if len(os.fsencode(name)) <= room:
        return name
    stem, suffix = os.path.splitext(name)
    end = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}{suffix if len(suffix) < 16 else ''}"
    while len(os.fsencode(stem + end)) > room:
        stem = stem[:-1]
    return stem + end


def safe_name(name: str) -> str:
    """A file's name, with what some file system refuses, and "%", written as "%" and two hex digits."""
    text = _REFUSED.sub(lambda match: f"%{ord(match[0]):02X}", name)
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text)


def partial_path(path: Path) -> Path:
    """The temporary path of a file while it is written: in the same folder, hidden, with the same suffix."""
    name = fitting(path.name, len("..partial"))
    stem, suffix = os.path.splitext(name)
    return path.with_name(f".{stem}.partial{suffix}")


@contextmanager
def whole_file(path: Path, durable: bool = False, suffix: str = "") -> Iterator[Path]:
    """A temporary path to write to, which is renamed to path if all went well.

    durable  flush the file to the disk before this returns, so that it survives a power cut.
    suffix   of the temporary path, for programs that choose a format by it.
    Raises ZerosegError, naming path, if it cannot be written.

    The temporary name is random, because several machines may write into one folder. A killed process leaves the file
    behind; remove_leftovers deletes it.
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
    """Write UTF-8 text to a file completely or not at all; raises as whole_file."""
    with whole_file(path, durable) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of killed processes in a folder; nobody else may be writing there."""
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
    """Write a marked PNG. Raises ZerosegError if it would overwrite a file without the mark."""
    from PIL.PngImagePlugin import PngInfo

    refuse_to_replace(path, is_signed_png)
    signature = PngInfo()
    signature.add_text(*_SOFTWARE)
    with whole_file(path) as partial:
        picture.save(partial, format="PNG", compress_level=PNG_LEVEL, pnginfo=signature)


def is_signed_png(path: str | os.PathLike) -> bool:
    """Whether zeroseg wrote this file; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return b"tEXt" + "\0".join(_SOFTWARE).encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def is_result(path: str | os.PathLike) -> bool:
    """is_signed_png() for many files; files without a result's name are not opened."""
    return os.fspath(path).endswith(tuple(RESULT_NAMES.values())) and is_signed_png(path)


def refuse_to_replace(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Raise ZerosegError if the file exists and was not written by zeroseg."""
    if os.path.lexists(path) and not is_ours(path):
        raise ZerosegError(f"{path}: was not written by zeroseg and would be overwritten; choose another --out")
