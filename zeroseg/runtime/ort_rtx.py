"""TensorRT for RTX as an execution provider of ONNX Runtime: the plain .onnx on an RTX GPU, after one pip install.

The provider is a plugin in a separate wheel (extra rtx). It compiles the network when the session opens, for the sizes
that preprocessing can produce, and caches the result in a folder of the user's cache, so that the next start is fast.
It needs NVIDIA's driver and a GPU that the provider takes, which are fewer than TensorRT for RTX itself takes.
"""

import importlib

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.ort_runner import OrtRunner, first_line, session_options
from zeroseg.runtime.rtx_library import INSTALL, PROVIDER, cache_folder, load_cuda_runtime
from zeroseg.runtime.trt_profile import make_profile
from zeroseg.sidecar import Sidecar

OLDEST = (1, 24)  # of onnxruntime: the provider's own demand
MAX_BATCH = 8  # photos that a run takes at most: the network is compiled for up to so many
GPUS = "RTX GPU of compute capability 8.6, 8.9 or 12.0 and later (GeForce RTX 30 and later)"
INSTEAD = "use back end onnxruntime"


class OrtRtxRunner(OrtRunner):
    def open(self, artifact: Artifact, threads: int):
        return open_rtx_session(artifact, threads)

    @property
    def largest_batch(self) -> int:
        return MAX_BATCH


def open_rtx_session(artifact: Artifact, threads: int):
    """An InferenceSession on the provider. UnavailableError, in one line, where package, driver or GPU is missing;
    ZerosegError when the provider cannot load or compile the file."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    devices = rtx_devices()
    options = session_options(threads)
    options.add_provider_for_devices(devices[:1], provider_options(artifact))
    try:
        return onnxruntime.InferenceSession(str(artifact.path), options)
    except Exception as error:  # onnxruntime has one exception class per status, none of them public
        raise ZerosegError(f"{artifact.path}: TensorRT for RTX cannot load it: {first_line(error)}") from error


def provider_options(artifact: Artifact) -> dict[str, str]:
    """The provider's options: the shapes to compile for, and the cache folder."""
    [(_, shapes)] = image_profile(artifact.sidecar).items()
    named = {
        f"nv_profile_{end}_shapes": f"image:{'x'.join(map(str, shape))}"
        for end, shape in zip(("min", "opt", "max"), shapes, strict=True)
    }
    return named | {"nv_runtime_cache_path": str(cache_folder())}


def image_profile(sidecar: Sidecar) -> dict[str, list[list[int]]]:
    return make_profile({"image": (-1, 3, -1, -1)}, sidecar, MAX_BATCH, "the network")


def rtx_devices() -> list:
    """The GPUs that the provider supports, at least one. Loads the provider, once per process. UnavailableError if
    none.
    """
    import onnxruntime

    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version < OLDEST or not hasattr(onnxruntime, "register_execution_provider_library"):
        raise UnavailableError(
            f"back end onnxruntime-rtx needs onnxruntime {'.'.join(map(str, OLDEST))} or later, found "
            f"{onnxruntime.__version__}: pip install --upgrade onnxruntime, or {INSTEAD}"
        )
    try:
        provider = importlib.import_module(PROVIDER)
    except ImportError as error:
        raise UnavailableError(
            f"back end onnxruntime-rtx is not installed ({error}); {INSTALL}, or {INSTEAD}"
        ) from error
    name = provider.get_ep_name()
    if name not in _registered:
        try:
            load_cuda_runtime()
            onnxruntime.register_execution_provider_library(name, provider.get_library_path())
        except Exception as error:
            why = first_line(error).rsplit("with error: ", 1)[-1]
            raise UnavailableError(
                f"back end onnxruntime-rtx cannot run here: {why}; it needs NVIDIA's driver and an {GPUS}; {INSTEAD}"
            ) from error
        _registered.add(name)
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise UnavailableError(f"back end onnxruntime-rtx cannot run here: its provider finds no {GPUS}; {INSTEAD}")
    return devices


_registered: set[str] = set()  # ONNX Runtime takes a library's name once a process
