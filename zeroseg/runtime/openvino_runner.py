"""OpenVINO on the CPU, from the same ONNX file."""

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.runtime.base import IMAGE, Runner, TensorSpec, check_signature, outputs_of

# float32 although the CPU may have faster bfloat16: masks are to be the same everywhere
PROPERTIES = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}


class OpenVinoRunner(Runner):
    backend = "openvino"

    def __init__(self, artifact: Artifact, threads: int):
        try:
            import openvino
        except ImportError as error:
            raise missing_extra("openvino", "openvino", "back end openvino") from error
        core = openvino.Core()
        try:
            model = core.read_model(str(artifact.path))
            compiled = core.compile_model(model, "CPU", {**PROPERTIES, "INFERENCE_NUM_THREADS": str(threads)})
        except RuntimeError as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
            raise ZerosegError(f"{artifact.path}: openvino {openvino.__version__} cannot load it: {reason}") from error
        inputs = {port.get_any_name(): _spec(port) for port in compiled.inputs}
        outputs = {name: _spec(port).shape for port in compiled.outputs for name in port.get_names()}
        check_signature(artifact, inputs, outputs)
        self._input = inputs[IMAGE]
        self._outputs = {name: compiled.output(name) for name in outputs_of(artifact.sidecar)}
        self._request = compiled.create_infer_request()

    def input(self) -> TensorSpec:
        return self._input

    def _run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        try:
            results = self._request.infer({IMAGE: image}, share_inputs=True)
        except RuntimeError as error:
            raise ZerosegError(f"openvino cannot run this network: {str(error).splitlines()[0]}") from error
        return {name: results[port] for name, port in self._outputs.items()}


def _spec(port) -> TensorSpec:
    """OpenVINO's description of an input or output; a free axis gets its number for a name."""
    shape = tuple(dim.get_length() if dim.is_static else f"axis {i}" for i, dim in enumerate(port.partial_shape))
    return TensorSpec(shape, {"f32": "float32", "f16": "float16"}.get(port.element_type.get_type_name(), "unknown"))
