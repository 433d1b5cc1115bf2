"""Put zeroseg's plugins into the network for TensorRT, and register them with TensorRT."""

from pathlib import Path

from zeroseg.errors import UnavailableError
from zeroseg.runtime.trt_plugins import find_library, load_library


def with_plugins(trt, content: bytes, kind: str, sm: str, onnx: Path, out: Path) -> bytes:
    """The network for TensorRT; its plugins are registered."""
    if kind == "none":
        return content
    try:
        from zeroseg.export.trt.plugin_graph import insert_plugins
    except ImportError as error:
        raise UnavailableError(
            f"--plugins {kind}: changing the network needs onnx ({error}): pip install 'zeroseg[export]'"
        ) from error
    if kind == "v3":
        try:
            load_library(trt, find_library(out))
        except UnavailableError as error:
            raise UnavailableError(f"--plugins v3: {error}") from error
    else:
        from zeroseg.export.trt.aot_plugins import register_plugins

        register_plugins(trt, sm)
    return insert_plugins(content, kind, onnx.name)
