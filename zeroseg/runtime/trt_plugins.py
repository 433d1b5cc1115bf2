"""The plugins that an engine may hold, and the library that some of them need to be loaded.

none  the plain graph
aot   kernels inside the engine (zeroseg/export/trt/aot_plugins.py): nothing has to be loaded
v3    calls of a library (kernels/csrc/tensorrt): it must be loaded before the engine is built or deserialised
"""

import os
from pathlib import Path

from zeroseg.errors import UnavailableError

KINDS = ("none", "aot", "v3")
NAMESPACE = "zeroseg"
LIBRARY = "libzeroseg_trt_plugins.so"
VARIABLE = "ZEROSEG_TRT_PLUGINS"


def find_library(engine: Path | None = None) -> Path:
    """The plugin library: what the variable names, else beside the engine, else where the CUDA library is built to.

    UnavailableError in one line where there is none.
    """
    import zeroseg.kernels

    named = os.environ.get(VARIABLE)
    places = [Path(named)] if named else [engine.parent / LIBRARY] if engine else []
    if not named:
        places += [Path(folder) / LIBRARY for folder in zeroseg.kernels.__path__]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise UnavailableError(
        f"{LIBRARY} was not found ({', '.join(map(str, places))}); cmake -S . -B build/cuda "
        f"-DZEROSEG_CUDA=ON && cmake --build build/cuda makes it where NvInfer.h is, and {VARIABLE} "
        "says where it lies"
    )


def load_library(trt, path: Path) -> None:
    """Register the library's plugins with TensorRT; UnavailableError where TensorRT does not take it."""
    try:
        handle = trt.get_plugin_registry().load_library(str(path))
    except Exception as error:  # pybind11 passes on whatever C++ throws
        raise UnavailableError(f"{path}: TensorRT {trt.__version__} cannot load it ({error})") from error
    if handle is None:
        raise UnavailableError(
            f"{path}: TensorRT {trt.__version__} cannot load it; was it built with the headers of "
            "this TensorRT, and is libzeroseg_cuda.so beside it?"
        )
