"""A frozen network in an ONNX file, run by ONNX Runtime on one thread: several threads may call it at once."""

from pathlib import Path

import numpy as np

from zeroseg.errors import UnavailableError, ZerosegError


class OnnxNetwork:
    """Named arrays in, named arrays out.

    path  the file; ZerosegError if it is missing or no network.
    """

    def __init__(self, path: str | Path):
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise UnavailableError("teachers: ONNX Runtime is not installed; pip install onnxruntime") from error
        self.path = Path(path)
        if not self.path.is_file():
            raise ZerosegError(f"teachers: {self.path} is missing; give the folder with it as --helper-weights")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 ONNX Runtime raises its own kinds for files that are no graph
            raise ZerosegError(f"teachers: {self.path} cannot be read as ONNX ({type(error).__name__})") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """float32 arrays by input name -> arrays by output name."""
        return dict(zip(self._outputs, self._session.run(None, inputs), strict=True))
