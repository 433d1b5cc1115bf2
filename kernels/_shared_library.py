"""Loading a library of ours that may be missing, damaged or of another version."""

import ctypes
from pathlib import Path


def load_library(path: Path, not_built: str, version_function: str, version: int) -> ctypes.CDLL | str:
    """The library, or why there is none: not_built where the file is missing, else what is wrong with it."""
    if not path.is_file():
        return not_built
    try:
        library = ctypes.CDLL(str(path))
        found = getattr(library, version_function)()
    except (OSError, AttributeError) as error:
        return f"{path}: {error}"
    if found != version:
        return f"{path} was built from other sources (interface {found}, expected {version}); install zeroseg again"
    return library
