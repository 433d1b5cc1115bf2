"""Find the inference server's files in the wheel nvidia-pytriton, without importing it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

import zeroseg
from zeroseg.errors import UnavailableError

INSTALL = "pip install 'zeroseg[triton]' (Linux x86-64, glibc 2.35 or newer)"


class ServerFiles(NamedTuple):
    """program: tritonserver. environment: variables for it and its Python processes."""

    program: Path
    backends: Path
    environment: dict[str, str]


def find_server(folder: Path) -> ServerFiles:
    """Lay out the Python back end in the existing folder. Raises UnavailableError if no server can run here."""
    spec = find_spec("pytriton")
    root = Path(spec.origin).parent / "tritonserver" if spec and spec.origin else None
    if root is None or not (root / "bin" / "tritonserver").is_file():
        raise UnavailableError(f"--engine triton needs the Triton Inference Server, which is not installed: {INSTALL}")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise UnavailableError(
            f"--engine triton: the installed server has no back end for Python {version}, only for "
            + ", ".join(sorted(path.name for path in stub.parents[1].iterdir()))
        )
    libraries = [root.parents[1] / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    environment = {
        "LD_LIBRARY_PATH": ":".join(str(path) for path in libraries if path),
        "PYTHONPATH": ":".join(python_path()),
        # an isolated stub takes the packages of the first python3 it finds
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
    if int(np.__version__.split(".")[0]) > 1:  # its compiled module would then silently pass on empty arrays
        raise UnavailableError(
            f"--engine triton: the server's Python back end needs NumPy below 2, found {np.__version__}: "
            f"{INSTALL} in a separate virtual environment"
        )
    _check_stub(stub, environment, version)
    python = folder / "python"
    python.mkdir(parents=True)
    for file in (*(root / "backends" / "python").iterdir(), stub):
        if file.is_file():
            shutil.copy2(file, python / file.name)  # it is small, and through a link the stub would not find its files
    return ServerFiles(root / "bin" / "tritonserver", folder, environment)


def python_path() -> list[str]:
    """Folders with zeroseg and its imports for the server's Python processes, without the standard library."""
    ours = [str(Path(zeroseg.__file__).resolve().parents[1])]
    return ours + [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def _check_stub(stub: Path, environment: dict[str, str], version: str) -> None:
    """Raise UnavailableError if libpython, which the stub is linked with, is missing."""
    done = subprocess.run([stub], env=environment, capture_output=True, text=True)
    if "libpython" in done.stderr:
        raise UnavailableError(
            f"--engine triton needs the shared library of Python {version}: apt-get install "
            f"libpython{version}, or a Python that was built with --enable-shared"
        )
