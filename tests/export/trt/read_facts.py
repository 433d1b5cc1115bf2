"""Read the API of TensorRT's and CUDA's Python bindings out of the bindings themselves, into facts/*.json.

The wheels of tensorrt-cu12-bindings, tensorrt-cu13-bindings and cuda-bindings need no GPU to be imported. TensorRT's
also want libnvinfer and two more libraries, of which they use nine symbols: empty ones of those names satisfy the
loader, and the classes, enums and docstrings are then the real ones. Nothing of TensorRT runs. Once per version:

    pip download --no-deps tensorrt-cu12-bindings==10.3.0 && unzip *.whl -d bindings
    python tests/export/trt/read_facts.py tensorrt bindings
    pip install --no-deps --target bindings cuda-bindings==12.9.8
    python tests/export/trt/read_facts.py cuda bindings

facts/pycuda-2026.1.json was written by hand from src/wrapper/wrap_cudadrv.cpp of its sdist.
"""

import enum
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FACTS = Path(__file__).resolve().parent / "facts"
SYMBOLS = ("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
           "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
           "getPluginRegistry", "getNvOnnxParserVersion", "initLibNvInferPlugins")
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
# what zeroseg touches, and what it could be tempted to
CLASSES = ("Builder", "IBuilderConfig", "INetworkDefinition", "ITensor", "OnnxParser", "ParserError", "Dims",
           "IOptimizationProfile", "ITimingCache", "IHostMemory", "Runtime", "ICudaEngine", "IExecutionContext",
           "ILogger", "Logger", "IProgressMonitor")
CUDA = ("cudaGetDeviceCount", "cudaGetDevice", "cudaGetDeviceProperties", "cudaGetErrorName", "cudaGetErrorString",
        "cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaMallocHost", "cudaFreeHost", "cudaMemcpyAsync",
        "cudaStreamCreateWithFlags", "cudaStreamSynchronize", "cudaStreamDestroy", "cudaStreamBeginCapture",
        "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch", "cudaGraphExecDestroy", "cudaGraphDestroy",
        "cudaSetDevice", "cudaMemGetInfo")
CUDA_ENUMS = ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode")


def signatures(doc: str | None) -> list[str]:
    """pybind11's signature lines, without the module's name and the overloads' numbers."""
    lines = [line for line in (doc or "").splitlines() if re.match(r"^(\d+\. )?\w*\(.*\) -> ", line)]
    return [re.sub(r"tensorrt_bindings\.tensorrt\.|^\d+\. ", "", line) for line in lines]


def is_enum(kind) -> bool:
    return hasattr(kind, "__members__")


def read_class(kind: type) -> dict:
    """{"bases", "methods": {name: [signature]}, "properties": {name: writable}, "enums", "constants"}"""
    facts = {"bases": [base.__name__ for base in kind.__bases__ if not base.__name__.startswith("pybind11")],
             "methods": {}, "properties": {}, "enums": {}, "constants": []}
    for name, value in kind.__dict__.items():
        if isinstance(value, property):
            facts["properties"][name] = value.fset is not None
        elif isinstance(value, type) and is_enum(value):
            facts["enums"][name] = {member: int(item) for member, item in value.__members__.items()}
        elif name in ("__init__", "__len__", "__getitem__") or not name.startswith("_"):
            if found := signatures(getattr(value, "__doc__", None)):
                facts["methods"][name] = found
            elif not callable(value):
                facts["constants"].append(name)
    return facts


def read_tensorrt() -> dict:
    import tensorrt_bindings as trt

    enums = {name: {member: int(item) for member, item in kind.__members__.items()}
             for name, kind in vars(trt).items() if isinstance(kind, type) and is_enum(kind)}
    return {"module": "tensorrt", "version": trt.__version__, "names": sorted(n for n in dir(trt) if n[0] != "_"),
            "enums": enums, "classes": {name: read_class(getattr(trt, name)) for name in CLASSES}}


def read_cuda() -> dict:
    import cuda.bindings
    from cuda.bindings import runtime

    def parameters(function):
        return [str(item) for item in inspect.signature(function).parameters]

    enums = {}
    for name in CUDA_ENUMS:
        members = {key: int(item) for key, item in getattr(runtime, name).__members__.items()}
        enums[name] = members if name != "cudaError_t" else {
            key: members[key] for key in ("cudaSuccess", "cudaErrorInvalidValue", "cudaErrorMemoryAllocation",
                                          "cudaErrorNoDevice", "cudaErrorInsufficientDriver")}
    return {"module": "cuda.bindings.runtime", "version": cuda.bindings.__version__, "enums": enums,
            "functions": {name: parameters(getattr(runtime, name)) for name in CUDA},
            "constants": {name: int(getattr(runtime, name)) for name in ("cudaStreamNonBlocking",
                                                                         "cudaHostAllocDefault")},
            "properties": [name for name in ("name", "major", "minor", "totalGlobalMem")
                           if hasattr(runtime.cudaDeviceProp, name)]}


def with_empty_libraries(folder: Path) -> dict:
    """The environment in which the bindings under `folder` load."""
    [name] = folder.glob("tensorrt_bindings/tensorrt.so")
    major = re.search(rb"libnvinfer\.so\.(\d+)", name.read_bytes())[1].decode()
    empty = Path(tempfile.mkdtemp())
    (empty / "empty.c").write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for library in LIBRARIES:
        target = f"lib{library}.so.{major}"
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{target}", "-o", empty / target, empty / "empty.c"],
                       check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(empty), "PYTHONPATH": str(folder)}


def main(what: str, folder: str, inside: str = "") -> None:
    if not inside:  # again, with the bindings in reach
        folder = Path(folder).resolve()
        environment = (with_empty_libraries(folder) if what == "tensorrt"
                       else {**os.environ, "PYTHONPATH": str(folder)})
        subprocess.run([sys.executable, __file__, what, str(folder), "inside"], check=True, env=environment)
        return
    facts = read_tensorrt() if what == "tensorrt" else read_cuda()
    path = FACTS / f"{what}-{facts['version']}.json"
    path.write_text(json.dumps(facts, indent=1, default=_plain) + "\n", encoding="utf-8")
    print(path.name, path.stat().st_size)


def _plain(value):
    return int(value) if isinstance(value, enum.Enum) else str(value)


if __name__ == "__main__":
    main(*sys.argv[1:])
