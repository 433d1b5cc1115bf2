"""Load TensorRT for RTX on this machine.

It is a different library from TensorRT: module `tensorrt_rtx`, versions 1.x, engines for RTX GPUs that are finished on
the GPU that runs them. Its Python bindings are the wheel tensorrt-rtx-cu13-bindings. The libraries that they need come
with the SDK, or in the wheel onnxruntime-ep-nv-tensorrt-rtx-cu13, from which they are loaded here. Building an engine
needs neither a GPU nor a driver.
"""

import ctypes
import importlib
import importlib.util
import os
from pathlib import Path

from zeroseg.errors import UnavailableError
from zeroseg.runtime.trt_library import parse_version

OLDEST_RTX = (1, 5)  # 1.5 changed the binary interface
MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")  # the SDK's, the wheel's
PROVIDER = "onnxruntime_ep_nv_tensorrt_rtx"  # the wheel with the libraries
LIBRARIES = ("libtensorrt_rtx", "libtensorrt_onnxparser_rtx")  # the second needs the first
INSTALL = "pip install 'zeroseg[rtx]' (Linux on x86-64)"


def load_rtx(purpose: str):
    """Import TensorRT for RTX, in a supported version. UnavailableError, in one line, if there is none."""
    name = next((name for name in MODULES if importlib.util.find_spec(name) is not None), None)
    if name is None:
        raise UnavailableError(
            f"{purpose} needs TensorRT for RTX: its package tensorrt-rtx-cu13-bindings is not installed; {INSTALL}"
        )
    try:
        load_libraries()
        rtx = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise UnavailableError(
            f"{purpose}: TensorRT for RTX is installed, but cannot be loaded ({error}); {INSTALL} brings its libraries"
        ) from error
    if not OLDEST_RTX <= parse_version(rtx.__version__) < (2, 0):
        raise UnavailableError(
            f"{purpose}: TensorRT for RTX {rtx.__version__} is installed; zeroseg supports "
            f"{OLDEST_RTX[0]}.{OLDEST_RTX[1]} to 1.x; {INSTALL}"
        )
    return rtx


def load_libraries() -> None:
    """Load the libraries in the provider's wheel, if it is installed, so that the bindings find them.

    OSError when one cannot be loaded. The package itself is not imported: that would import ONNX Runtime.
    """
    folder = provider_folder()
    for stem in LIBRARIES if folder is not None else ():
        for path in sorted(folder.glob(f"{stem}.so.*.*"))[-1:]:  # the wheel has each once, under its full version
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def load_cuda_runtime() -> None:
    """Load the CUDA runtime that the provider needs, if the provider's wheel is installed.

    The system's is taken where there is one. The wheel has the library under its full version alone, so the provider
    does not find it. OSError when neither can be loaded.
    """
    folder = provider_folder()
    for path in sorted(folder.glob("libcudart.so.*.*"))[-1:] if folder is not None else ():
        try:
            ctypes.CDLL(".".join(path.name.split(".")[:3]))  # libcudart.so.13
        except OSError:
            ctypes.CDLL(str(path))


def require_by_name(folder: Path) -> None:
    """For networks with plugins the library opens itself by its bare name, and ends the process if that fails.

    This raises UnavailableError before that, in one line with the variable to set; `folder` then has the link it needs.
    """
    name = f"{LIBRARIES[0]}.so"
    try:
        ctypes.CDLL(name)
        return
    except OSError:
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        [path] = sorted(provider_folder().glob(f"{name}.*.*"))[-1:]
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(path)
    except (OSError, AttributeError, ValueError) as error:
        raise UnavailableError(f"--plugins v3: TensorRT for RTX needs {name} on the library path ({error})") from error
    raise UnavailableError(
        f"--plugins v3: TensorRT for RTX searches {name} on the library path; run the command again "
        f"with LD_LIBRARY_PATH={folder}"
    )


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/zeroseg/rtx, or ~/.cache/zeroseg/rtx."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "zeroseg" / "rtx"


def provider_folder() -> Path | None:
    """Where the wheel with the libraries is installed; None where it is not."""
    spec = importlib.util.find_spec(PROVIDER)
    return Path(next(iter(spec.submodule_search_locations))) if spec is not None else None
