"""Writing: folders made, files that are there whole or not at all, and one clear line where that fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroseg.errors import ZerosegError


def make_folder(path: Path, option: str = "--out") -> None:
    """Make a folder and those above it, unless it is there. Raises ZerosegError, naming the option it came from."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ZerosegError(f"{option} {path}: cannot be made (it is there, and no folder)") from None
    except OSError as error:
        raise ZerosegError(f"{option} {path}: cannot be made ({error.strerror})") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes path when all went well. Raises ZerosegError, naming path, where it fails."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ZerosegError(f"{path}: cannot be written ({error.strerror or error})") from error
