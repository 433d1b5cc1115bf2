"""ONNX Runtime on the CPU: what the base install runs."""

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.base import OUTPUTS, Runner, TensorSpec, check_face

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


class OrtRunner(Runner):
    backend = "onnxruntime"

    def __init__(self, artifact: Artifact, threads: int):
        try:
            import onnxruntime
        except ImportError as error:
            raise UnavailableError("back end onnxruntime is not installed: pip install onnxruntime") from error
        onnxruntime.set_default_logger_severity(3)  # errors only: its warnings speak of graph internals
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(artifact.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one exception class per status, none of them public
            reason = f"onnxruntime {onnxruntime.__version__} cannot load it: {str(error).splitlines()[0]}"
            raise ZerosegError(f"{artifact.path}: {reason}") from error
        self._inputs = {value.name: _spec(value) for value in self._session.get_inputs()}
        check_face(artifact, self._inputs, [value.name for value in self._session.get_outputs()])

    def inputs(self) -> dict[str, TensorSpec]:
        return self._inputs

    def _run(self, feed) -> dict[str, np.ndarray]:
        return dict(zip(OUTPUTS, self._session.run(list(OUTPUTS), dict(feed)), strict=True))


def _spec(value) -> TensorSpec:
    """onnxruntime's description of an input; an axis without a size or name gets its number for a name."""
    shape = tuple(size if isinstance(size, int) else size or f"axis {i}" for i, size in enumerate(value.shape))
    return TensorSpec(shape, _DTYPES.get(value.type, value.type))
