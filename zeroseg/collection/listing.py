"""Find every photo of a collection, one after the other, without holding the collection in memory.

A source is a picture, a tar file or a folder. Folders are walked as in zeroseg.photos.listing, and tar files in them
are read too. Tars must be uncompressed, so that any process can read a photo at its offset, in any order, without
unpacking.
"""

import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zeroseg.errors import ZerosegError
from zeroseg.photos.listing import SUFFIXES, folders, identities, is_photo, name_below, suffix_of

_ZEROS = bytes(512)  # a block of them ends a tar
_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")


class Photo(NamedTuple):
    """The location of one photo.

    path    its name in the collection: the source as given / the path inside it.
    file    the file to open, absolute.
    offset  where it begins in a tar file; None if the file is the photo.
    size    its size in a tar file, in bytes.
    """

    path: str
    file: str
    offset: int | None = None
    size: int = 0

    def read(self) -> bytes:
        """The photo's file, undecoded. Raises OSError if it cannot be read completely."""
        with open(self.file, "rb") as file:
            if self.offset is None:
                return file.read()
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise OSError(f"{self.file} ends within this photo")
        return data


class SourceGone(ZerosegError):
    """A folder or tar of the collection has disappeared: an unplugged disk, an unmounted share."""


def read_listed(photo: Photo) -> bytes:
    """The photo's file, undecoded, as Photo.read.

    Raises OSError if this photo cannot be read, SourceGone if its folder or tar has disappeared or the folder is empty.
    """
    try:
        return photo.read()
    except OSError as error:
        if gone := _gone(photo):
            raise SourceGone(
                f"{gone}: has disappeared since the photos were listed; restore it and run the same command"
            ) from error
        raise


def _gone(photo: Photo) -> str | None:
    if photo.offset is not None and not os.path.exists(photo.file):
        return photo.file
    folder = os.path.dirname(photo.file)
    try:
        with os.scandir(folder) as entries:
            return None if next(entries, None) else folder  # an unmounted disk leaves an empty folder
    except OSError:
        return folder


def list_photos(
    sources: Iterable[str | Path], leave: Iterable[str | Path] = (), also: frozenset[str] = frozenset()
) -> Iterator[Photo]:
    """Every photo of the sources, each file once, folders in the order of their names.

    leave  folders to skip, such as the one for the results.
    also   suffixes of further files that are listed, such as those of videos; not of those in tar files.
    Raises ZerosegError for a source that is missing, is not a photo, folder or tar, or is a damaged or compressed tar.
    """
    seen = identities(leave)
    earlier: list[str] = []
    for source in map(str, sources):
        real = os.path.realpath(source)
        if any(real == other or real.startswith(other.rstrip(os.sep) + os.sep) for other in earlier):
            continue  # inside a source that is listed already
        inside = {other for other in earlier if other.startswith(real.rstrip(os.sep) + os.sep)}
        earlier.append(real)
        if os.path.isdir(real):
            yield from _of_folder(real, source.rstrip("/" + os.sep) or source, inside, seen, also)
        elif not os.path.exists(real):
            raise ZerosegError(f"{source}: no such file or folder")
        elif _is_tar(real):
            yield from _of_tar(real, source)
        elif suffix_of(real) in SUFFIXES | also:
            yield Photo(source, real)
        else:
            raise ZerosegError(f"{source}: expected a folder, a tar file or a picture")


def tar_members(path: str | Path) -> Iterator[tuple[str, int, int]]:
    """(name, offset of the data, size in bytes) of the files in an uncompressed tar, in their order.

    Concatenated tars are read one after the other. Hard and symbolic links to files of the tar come last, with the
    location of the file. ZerosegError, in one line, if the tar is damaged, truncated or compressed, or if a link with a
    photo's name has no target.
    """
    links: dict[str, str] = {}
    for name, offset, size, target in _entries(path):
        if target is None:
            yield name, offset, size
        else:
            links[name] = target
    places: dict[str, tuple[int, int]] = {}
    if links:
        wanted = set(links.values())
        places = {name: (offset, size) for name, offset, size, to in _entries(path) if to is None and name in wanted}
    for name in links:
        target, seen = name, set()
        while target in links and target not in places and target not in seen:
            seen.add(target)
            target = links[target]
        if target in places:
            yield name, *places[target]
        elif suffix_of(name) in SUFFIXES:
            raise ZerosegError(
                f"{path}: {name} is a link to {links[name]}, which is not in the tar; make the tar again with "
                "tar --dereference"
            )


def _entries(path: str | Path) -> Iterator[tuple[str, int, int, str | None]]:
    """(name, offset, size, None) of the files, (name, 0, 0, name of the target) of the links, as they come."""
    start, total = 0, os.path.getsize(path)
    try:
        with open(path, "rb") as file:
            while start is not None:
                file.seek(start)
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    while (member := tar.next()) is not None:
                        tar.members.clear()  # tarfile keeps all it has seen
                        name = posixpath.normpath(member.name)
                        if member.islnk() or member.issym():
                            base = posixpath.dirname(name) if member.issym() else ""
                            yield name, 0, 0, posixpath.normpath(posixpath.join(base, member.linkname))
                        elif member.isreg():
                            if member.issparse():
                                raise ZerosegError(
                                    f"{path}: {name} is a sparse file; make the tar again without tar --sparse"
                                )
                            if member.offset_data + member.size > total:
                                raise ZerosegError(f"{path}: truncated within {name}; copy or make it again")
                            yield name, member.offset_data, member.size, None
                    end = tar.offset
                start = _next_part(file, end)
                if start == end:  # tarfile takes a damaged header for the end
                    raise ZerosegError(f"{path}: damaged or truncated after {end} bytes; copy or make it again")
    except tarfile.TarError as error:
        hint = "decompress it first" if _compressed(path) else "copy or make it again"
        raise ZerosegError(f"{path}: cannot be read as an uncompressed tar ({error}); {hint}") from error


def _next_part(file: BinaryIO, end: int) -> int | None:
    """The offset of another tar after the zeros at end; None if there is none; end if there are no zeros."""
    file.seek(end)
    place = end
    while (block := file.read(512)) == _ZEROS:
        place += 512
    return place if len(block) == 512 or place == end else None


def compressed_hint(roots: Iterable[str | Path]) -> str:
    """A hint for the message that there is no photo: what to do with a compressed archive there, or ""."""
    for file in (file for root in roots if os.path.isdir(root) for _, files in folders(root) for file in files):
        if suffix_of(file.name) in _COMPRESSED:
            return f"; {file.path} is compressed: unpack it to a folder or an uncompressed tar"
    return ""


def _of_folder(root: str, shown: str, leave: set[str], seen: set, also: frozenset[str]) -> Iterator[Photo]:
    for _, files in folders(root, seen):
        for file in files:
            name = f"{shown.rstrip('/')}/{name_below(root, file.path)}"
            if file.path in leave:
                continue
            if suffix_of(file.name) == ".tar":
                yield from _of_tar(file.path, name)
            elif is_photo(file.path) or suffix_of(file.name) in also:
                yield Photo(name, file.path)


def _of_tar(path: str, shown: str) -> Iterator[Photo]:
    seen: dict[str, int] = {}
    for name, offset, size in tar_members(path):
        base = name.rsplit("/", 1)[-1]
        if base.startswith(".") or suffix_of(base) not in SUFFIXES:
            continue
        seen[name] = seen.get(name, 0) + 1
        number = f"#{seen[name]}" if seen[name] > 1 else ""  # tars may hold a name twice
        yield Photo(f"{shown}/{name}{number}", path, offset, size)


def _is_tar(path: str) -> bool:
    if suffix_of(path) == ".tar":
        return True
    if suffix_of(path) in _COMPRESSED:
        raise ZerosegError(f"{path}: compressed; unpack it to a folder or an uncompressed tar first")
    return False


def _compressed(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5", b"PK")
