"""Find every photo of a collection, one after the other, without holding the collection in memory.

A source is a picture, a tar file or a folder; folders are walked, hidden entries and links to folders left out, and
tar files in them are looked into. Tars must be uncompressed: a photo is then read from its place in the file, in any
order and by any process, without unpacking.
"""

import os
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from zeroseg.errors import ZerosegError
from zeroseg.image import SUFFIXES

_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")
LISTED_AT_ONCE = 65_536  # entries of one folder that are sorted together; a larger folder comes in sorted runs


class Photo(NamedTuple):
    """Where the bytes of one photo are.

    path    its name in the collection: the source as it was given / the way from there.
    file    the file to open, absolute.
    offset  where it begins in a tar file; None where the file is the photo.
    size    its bytes in a tar file.
    """

    path: str
    file: str
    offset: int | None = None
    size: int = 0

    def read(self) -> bytes:
        """The photo's file, undecoded. Raises OSError where it cannot be read whole."""
        with open(self.file, "rb") as file:
            if self.offset is None:
                return file.read()
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise OSError(f"{self.file} ends before this photo does")
        return data


class SourceGone(ZerosegError):
    """A folder or tar of the collection is not there any more: an unplugged disk, a share that was unmounted."""


def read_listed(photo: Photo) -> bytes:
    """The photo's file, undecoded, as Photo.read.

    Raises OSError where this photo cannot be read, SourceGone where its folder or tar has gone with all in it, or
    where nothing is left in the folder.
    """
    try:
        return photo.read()
    except OSError as error:
        if gone := _gone(photo):
            raise SourceGone(
                f"{gone}: was there when the photos were listed and has gone; bring it back and give the same command"
            ) from error
        raise


def _gone(photo: Photo) -> str | None:
    if photo.offset is not None and not os.path.exists(photo.file):
        return photo.file
    folder = os.path.dirname(photo.file)
    try:
        with os.scandir(folder) as entries:
            return None if next(entries, None) else folder  # where a disk was mounted an empty folder stays
    except OSError:
        return folder


def list_photos(sources: Iterable[str | Path], leave: Iterable[str | Path] = ()) -> Iterator[Photo]:
    """Every photo of the sources, each file once, folders in the order of their names.

    leave  folders that are not looked into, such as the one that results are written to.
    Raises ZerosegError for a source that is not there, is no photo, folder or tar, or is a damaged or compressed tar.
    """
    left = {os.path.realpath(folder) for folder in leave}
    earlier: list[str] = []
    for source in map(str, sources):
        real = os.path.realpath(source)
        if any(real == other or real.startswith(other.rstrip(os.sep) + os.sep) for other in earlier):
            continue  # within a source that was listed
        inside = {other for other in earlier if other.startswith(real.rstrip(os.sep) + os.sep)}
        earlier.append(real)
        if os.path.isdir(real):
            yield from _of_folder(real, source.rstrip("/" + os.sep) or source, left | inside)
        elif not os.path.exists(real):
            raise ZerosegError(f"{source}: no such file or folder")
        elif _is_tar(real):
            yield from _of_tar(real, source)
        elif _suffix(real) in SUFFIXES:
            yield Photo(source, real)
        else:
            raise ZerosegError(f"{source}: expected a folder, a tar file or a picture")


def tar_members(path: str | Path) -> Iterator[tuple[str, int, int]]:
    """(name, offset of the data, size in bytes) of the regular files in an uncompressed tar, in their order.

    ZerosegError in one line where it is damaged, cut off or compressed.
    """
    try:
        total = os.path.getsize(path)
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile keeps all it has seen
                if not member.isreg():
                    continue
                if member.offset_data + member.size > total:
                    raise ZerosegError(f"{path}: cut off, {member.name} is not there in full; copy or make it again")
                yield member.name, member.offset_data, member.size
            with open(path, "rb") as file:  # tarfile takes a damaged header for the end
                file.seek(tar.offset)
                if file.read(512) != bytes(512):
                    raise ZerosegError(f"{path}: damaged or cut off after {tar.offset} bytes; copy or make it again")
    except tarfile.TarError as error:
        hint = "decompress it first" if _compressed(path) else "copy or make it again"
        raise ZerosegError(f"{path}: cannot be read as an uncompressed tar ({error}); {hint}") from error


def compressed_hint(folders: Iterable[str | Path]) -> str:
    """For a message that there is no photo: what to do about an archive that lies there compressed, or nothing."""
    for folder, _, names in (step for root in folders for step in os.walk(root)):
        for name in sorted(names):
            if _suffix(name) in _COMPRESSED and not name.startswith("."):
                return f"; {os.path.join(folder, name)} is compressed: unpack it to a folder or an uncompressed tar"
    return ""


def printable(name: str) -> str:
    """name as text that any file format takes: bytes that are no UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _of_folder(folder: str, shown: str, leave: set[str]) -> Iterator[Photo]:
    if folder in leave:
        return
    folders = []
    try:
        entries = os.scandir(folder)
    except OSError as error:
        raise ZerosegError(f"{shown}: {error.strerror or error}") from error
    with entries:
        visible = (entry for entry in entries if not entry.name.startswith("."))
        while batch := sorted(islice(visible, LISTED_AT_ONCE), key=lambda entry: entry.name):
            for entry in batch:
                suffix = _suffix(entry.name)
                if entry.is_dir():
                    if not entry.is_symlink():
                        folders.append(entry.name)
                elif suffix == ".tar":
                    if entry.path not in leave:
                        yield from _of_tar(entry.path, f"{shown}/{entry.name}")
                elif suffix in SUFFIXES and entry.is_file() and entry.path not in leave:
                    yield Photo(f"{shown}/{entry.name}", entry.path)
    for name in sorted(folders):
        yield from _of_folder(os.path.join(folder, name), f"{shown}/{name}", leave)


def _of_tar(path: str, shown: str) -> Iterator[Photo]:
    seen: dict[str, int] = {}
    for name, offset, size in tar_members(path):
        base = name.rsplit("/", 1)[-1]
        if base.startswith(".") or _suffix(base) not in SUFFIXES:
            continue
        seen[name] = seen.get(name, 0) + 1
        number = f"#{seen[name]}" if seen[name] > 1 else ""  # tars may hold a name twice
        yield Photo(f"{shown}/{name}{number}", path, offset, size)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_tar(path: str) -> bool:
    if _suffix(path) == ".tar":
        return True
    if _suffix(path) in _COMPRESSED:
        raise ZerosegError(f"{path}: compressed; unpack it to a folder or an uncompressed tar first")
    return False


def _compressed(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5", b"PK")
