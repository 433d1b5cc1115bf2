"""The native CPU library: where it is, whether it can be used, and how it is called.

It is built by CMake (setup.py runs it during the install where there is a compiler) and loaded by ctypes, so one
build serves every Python version. Calls release the GIL.
"""

import ctypes
import sys
from functools import cache
from pathlib import Path

from zeroseg.kernels._shared_library import load_library

ABI_VERSION = 5  # of csrc/native.h
_NAME = {"win32": "zeroseg_cpu.dll", "darwin": "libzeroseg_cpu.dylib"}.get(sys.platform, "libzeroseg_cpu.so")
_STATUS = {1: ValueError, 2: MemoryError}


@cache
def _library() -> ctypes.CDLL | str:
    """The loaded library, or the reason why there is none."""
    not_built = (
        f"{_NAME} was not built; with a C++ compiler and CMake, `pip install .` builds it "
        "(ZEROSEG_BUILD_NATIVE=1 shows what is missing)"
    )
    library = load_library(Path(__file__).resolve().parent / _NAME, not_built, "zs_abi_version", ABI_VERSION)
    if not isinstance(library, str):
        library.zs_last_error.restype = ctypes.c_char_p
    return library


def why_not() -> str | None:
    """None where the library can be used, else the reason."""
    library = _library()
    return library if isinstance(library, str) else None


def call(name: str, *arguments) -> None:
    """Call a function of the library with ctypes values; raise its message when it fails."""
    library = _library()
    status = getattr(library, name)(*arguments)
    if status:
        raise _STATUS.get(status, RuntimeError)(library.zs_last_error().decode())


def pointer(array) -> ctypes.c_void_p:
    """The address of a contiguous NumPy array."""
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)
