"""The table of back ends: their names, the files they read, and the class that runs them."""

from typing import NamedTuple


class Backend(NamedTuple):
    """suffixes: of the files it reads. runner: module under zeroseg.runtime and class; a class may serve several back
    ends, and its artifact says which. towers: whether it runs open_clip towers as they are, without an export.
    """

    suffixes: tuple[str, ...]
    runner: str
    towers: bool = False


BACKENDS = {  # "auto" takes the first that reads the file
    "onnxruntime": Backend((".onnx",), "ort_runner:OrtRunner"),
    "onnxruntime-cuda": Backend((".onnx",), "ort_runner:OrtRunner"),
    "onnxruntime-tensorrt": Backend((".onnx",), "ort_runner:OrtRunner"),
    "onnxruntime-rtx": Backend((".onnx",), "ort_rtx:OrtRtxRunner"),
    "openvino": Backend((".onnx",), "openvino_runner:OpenVinoRunner"),
    "torch": Backend((".pt",), "torch_runner:TorchRunner", towers=True),
    "torch-compile": Backend((".pt",), "torch_fast_runners:CompiledRunner"),
    "torch-cuda": Backend((".pt",), "torch_runner:TorchRunner", towers=True),
    "torch-cuda-graphs": Backend((".pt",), "torch_fast_runners:CudaGraphRunner"),
    "tensorrt": Backend((".engine",), "trt_runner:TrtRunner"),
    "tensorrt-rtx": Backend((".rtx",), "trt_runner:TrtRunner"),
}
SUFFIXES = tuple(dict.fromkeys(suffix for backend in BACKENDS.values() for suffix in backend.suffixes))
