"""ONNX Runtime: on the CPU, what the base install runs; on an NVIDIA GPU by its CUDA or TensorRT execution provider."""

from pathlib import Path

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.base import IMAGE, Runner, TensorSpec, check_signature, outputs_of

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
CPU = "CPUExecutionProvider"
# backend -> execution providers, first the one asked for, then those that take the nodes it leaves
PROVIDERS = {
    "onnxruntime": [CPU],
    # TF32 keeps 10 bits of every factor: enough to move masks
    "onnxruntime-cuda": [("CUDAExecutionProvider", {"use_tf32": "0"}), CPU],
    "onnxruntime-tensorrt": [
        ("TensorrtExecutionProvider", {"trt_engine_cache_enable": "0"}),
        ("CUDAExecutionProvider", {"use_tf32": "0"}),
        CPU,
    ],
}


class OrtRunner(Runner):
    def __init__(self, artifact: Artifact, threads: int):
        self.backend = artifact.backend
        self._session = self.open(artifact, threads)
        inputs = {value.name: _spec(value) for value in self._session.get_inputs()}
        outputs = {value.name: _spec(value).shape for value in self._session.get_outputs()}
        check_signature(artifact, inputs, outputs)
        self._input, self._outputs = inputs[IMAGE], outputs_of(artifact.sidecar)

    def open(self, artifact: Artifact, threads: int):
        """The session that runs the artifact's file."""
        return open_session(artifact.path, threads, self.backend)

    def input(self) -> TensorSpec:
        return self._input

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        try:
            values = self._session.run(list(self._outputs), {IMAGE: image})
        except Exception as error:  # a file that loads may still hold shapes that do not fit, or ask for all memory
            raise ZerosegError(f"onnxruntime cannot run this network: {first_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))


def open_session(path: Path, threads: int, backend: str = "onnxruntime"):
    """An InferenceSession on the provider of `backend`, which is a key of PROVIDERS.

    UnavailableError when this machine lacks the provider, ZerosegError when the file cannot be loaded.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError("back end onnxruntime is not installed: pip install onnxruntime") from error
    onnxruntime.set_default_logger_severity(3)  # errors only: its warnings speak of graph internals
    providers = PROVIDERS[backend]
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    offered = onnxruntime.get_available_providers()
    if wanted not in offered:
        raise UnavailableError(
            f"back end {backend} cannot run here: onnxruntime {onnxruntime.__version__} was built without {wanted} "
            f"(it has {', '.join(offered)}); pip install onnxruntime-gpu in place of onnxruntime, or use back end "
            "onnxruntime"
        )
    try:
        # its fallback prints on standard output and tries the CPU, which is among the providers already
        session = onnxruntime.InferenceSession(
            str(path), session_options(threads), providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime has one exception class per status, none of them public
        reason = f"onnxruntime {onnxruntime.__version__} cannot load it: {first_line(error)}"
        raise ZerosegError(f"{path}: {reason}") from error
    if wanted not in session.get_providers():  # a provider whose libraries are missing is dropped without an error
        raise UnavailableError(
            f"back end {backend} cannot run here: {wanted} did not start, onnxruntime fell back to "
            f"{', '.join(session.get_providers())}; check the driver, or use back end onnxruntime"
        )
    return session


def session_options(threads: int):
    """onnxruntime.SessionOptions with this many CPU threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between two steps of the network a thread waits some microseconds: spinning is faster than to sleep and be woken.
    # To spin on takes the core that capture, drawing or another program needs.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "200")
    return options


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _spec(value) -> TensorSpec:
    """onnxruntime's description of an input or output; an axis without a size or name gets its number for a name."""
    shape = tuple(size if isinstance(size, int) else size or f"axis {i}" for i, size in enumerate(value.shape))
    return TensorSpec(shape, _DTYPES.get(value.type, value.type))
