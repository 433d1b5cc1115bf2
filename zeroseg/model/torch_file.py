"""Files of torch.save: written so that equal contents give equal bytes, read only where every member is undamaged.

Such a file is a zip archive. torch.load does not look at the archive's checksums, so a flipped bit would become
another weight without a word.
"""

import pickle
import zipfile
import zlib
from pathlib import Path

import torch

from zeroseg.errors import ZerosegError
from zeroseg.files import whole_file


def save_torch(content, path: str | Path, durable: bool = False) -> None:
    """torch.save so that the file is there whole or not at all; ZerosegError, naming path, where it cannot be written.

    durable  as for whole_file.
    """
    path = Path(path)
    try:
        # given a file and not a name, torch does not put the name into the archive
        with whole_file(path, durable) as partial, open(partial, "wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch's word for a disk that is full
        raise ZerosegError(f"{path}: cannot be written ({_first_line(error)}); is the disk full?") from error


def load_torch(path: str | Path, expected: str):
    """What a file of save_torch holds, on the CPU.

    expected  what the file should be, for messages: "zeroseg checkpoint".
    Raises ZerosegError in one line where it is missing, is no such file, or a member is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = _damaged_member(archive)
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ZerosegError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (*_REFUSALS, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ZerosegError(f"{path}: not a {expected}, or truncated ({type(error).__name__})") from error
    raise ZerosegError(f"{path}: is damaged in {damaged} (its checksum differs); copy or make the file again")


_REFUSALS = (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)


def _damaged_member(archive: zipfile.ZipFile) -> str | None:
    """The first member whose bytes do not fit its checksum."""
    for entry in archive.infolist():
        try:
            with archive.open(entry) as member:
                while member.read(1 << 20):
                    pass
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            return entry.filename
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
