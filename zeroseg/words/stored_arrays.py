"""Check, before an .npz file is read, that its arrays are as large as their headers claim.

NumPy allocates the size that a header claims before it reads any number. A damaged or malicious header may claim
terabytes.
"""

import math
import zipfile
from pathlib import Path

import numpy as np

BYTES_MAX = 512 * 2**20  # of all arrays together, unpacked


def check_arrays(path: str | Path) -> None:
    """Raise ValueError if an array of an .npz file claims a wrong size, or if all together exceed BYTES_MAX.

    Raises OSError if the file cannot be read, zipfile.BadZipFile if it is not an .npz file.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > BYTES_MAX:
            raise ValueError(f"it unpacks to {size // 2**20} MiB")
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                with archive.open(entry) as file:
                    shape, dtype = _header(file)
                    claimed, found = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
                if claimed != found and not dtype.hasobject:  # the reader refuses pickled objects
                    name = entry.filename.removesuffix(".npy")
                    raise ValueError(f"{name} has {found} bytes, its header claims {claimed}")


def _header(file) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
