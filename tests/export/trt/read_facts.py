"""Read the API of TensorRT's and CUDA's Python bindings out of the bindings themselves, into facts/*.json.

The wheels of tensorrt-cu12-bindings, tensorrt-cu13-bindings and cuda-bindings need no GPU to be imported. TensorRT's
also want libnvinfer and two more libraries, of which they use nine symbols: empty ones of those names satisfy the
loader, and the classes, enums and docstrings are then the real ones. Nothing of TensorRT runs. Once per version:

    pip download --no-deps tensorrt-cu12-bindings==10.3.0 && unzip *.whl -d bindings
    python tests/export/trt/read_facts.py tensorrt bindings
    pip install --no-deps --target bindings cuda-bindings==12.9.8
    python tests/export/trt/read_facts.py cuda bindings

TensorRT for RTX is installed by the extra rtx, libraries and all:

    python tests/export/trt/read_facts.py rtx

TensorRT's tensorrt.plugin is plain Python and is read as text:

    python tests/export/trt/read_facts.py plugin bindings

PyCUDA is only to be had as sources, which build with the CUDA toolkit; a libcuda of functions that do nothing lets the
result be imported, and its docstrings have every signature:

    LDFLAGS=-L/folder/of/an/empty/libcuda.so python setup.py build_ext --inplace   # in its unpacked sdist
    python tests/export/trt/read_facts.py pycuda pycuda-2026.1
"""

import ast
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
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
# what zeroseg touches, and what it could be tempted to
CLASSES = (
    "Builder",
    "IBuilderConfig",
    "INetworkDefinition",
    "ITensor",
    "OnnxParser",
    "ParserError",
    "Dims",
    "IOptimizationProfile",
    "ITimingCache",
    "IHostMemory",
    "Runtime",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "Logger",
    "IProgressMonitor",
    "IPluginRegistry",
)
RTX_CLASSES = ("IRuntimeConfig", "IRuntimeCache")
FUNCTIONS = ("get_plugin_registry",)
CUDA = (
    "cudaGetDeviceCount",
    "cudaGetDevice",
    "cudaGetDeviceProperties",
    "cudaGetErrorName",
    "cudaGetErrorString",
    "cudaMalloc",
    "cudaFree",
    "cudaHostAlloc",
    "cudaMallocHost",
    "cudaFreeHost",
    "cudaMemcpyAsync",
    "cudaStreamCreateWithFlags",
    "cudaStreamSynchronize",
    "cudaStreamDestroy",
    "cudaStreamBeginCapture",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
    "cudaGraphLaunch",
    "cudaGraphExecDestroy",
    "cudaGraphDestroy",
    "cudaSetDevice",
    "cudaMemGetInfo",
)
PYCUDA = ("init", "mem_alloc", "pagelocked_empty", "memcpy_htod_async", "memcpy_dtoh_async")
PYCUDA_CLASSES = ("Device", "Context", "Stream", "DeviceAllocation")
CUDA_ENUMS = ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode")


def signatures(doc: str | None) -> list[str]:
    """pybind11's signature lines, without the module's name and the overloads' numbers."""
    lines = [line for line in (doc or "").splitlines() if re.match(r"^(\d+\. )?\w*\(.*\) -> ", line)]
    return [re.sub(r"tensorrt(?:_rtx)?_bindings\.tensorrt(?:_rtx)?\.|^\d+\. ", "", line) for line in lines]


def is_enum(kind) -> bool:
    return hasattr(kind, "__members__")


def read_class(kind: type) -> dict:
    """{"bases", "methods": {name: [signature]}, "properties": {name: writable}, "enums", "constants"}"""
    facts = {
        "bases": [base.__name__ for base in kind.__bases__ if not base.__name__.startswith("pybind11")],
        "methods": {},
        "properties": {},
        "enums": {},
        "constants": [],
    }
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


def read_rtx() -> dict:
    from zeroseg.runtime.rtx_library import load_rtx

    return read_tensorrt(load_rtx("reading its API"), RTX_CLASSES)


def read_tensorrt(trt=None, more=()) -> dict:
    if trt is None:
        import tensorrt_bindings as trt

    enums = {
        name: {member: int(item) for member, item in kind.__members__.items()}
        for name, kind in vars(trt).items()
        if isinstance(kind, type) and is_enum(kind)
    }
    return {
        "module": "tensorrt_rtx" if more else "tensorrt",
        "version": trt.__version__,
        "names": sorted(n for n in dir(trt) if n[0] != "_"),
        "enums": enums,
        "functions": {name: signatures(getattr(trt, name).__doc__) for name in FUNCTIONS},
        "classes": {name: read_class(getattr(trt, name)) for name in (*CLASSES, *more)},
    }


def read_plugin(folder: Path) -> dict:
    """tensorrt.plugin's public functions and classes, from their text; a parameter with a default ends in "="."""

    def parameters(function) -> list[str]:
        given = [item.arg for item in function.args.args]
        optional = len(function.args.defaults)
        return given[: len(given) - optional] + [f"{name}=" for name in given[len(given) - optional :]]

    def is_public(item) -> bool:
        return any("public_api" in ast.unparse(mark) for mark in item.decorator_list)

    functions, classes = {}, {}
    for path in sorted(folder.glob("tensorrt_bindings/plugin/*.py")):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(item, ast.FunctionDef) and is_public(item):
                functions[item.name] = parameters(item)
            elif isinstance(item, ast.ClassDef):
                members = [
                    (member, [ast.unparse(mark) for mark in member.decorator_list])
                    for member in item.body
                    if isinstance(member, ast.FunctionDef)
                ]
                properties = {member.name for member, marks in members if "property" in marks}
                writable = {member.name for member, marks in members if f"{member.name}.setter" in marks}
                classes[item.name] = {
                    "public": is_public(item),
                    "bases": [ast.unparse(base) for base in item.bases],
                    "methods": {
                        member.name: parameters(member) for member, _ in members if member.name not in properties
                    },
                    "properties": {name: name in writable for name in sorted(properties)},
                }
    [version] = {
        found[1] for found in map(re.compile(r"-(\d[\d.]*)\.dist-info$").search, map(str, folder.iterdir())) if found
    }
    return {
        "module": "tensorrt.plugin",
        "version": version,
        "functions": functions,
        "classes": {name: kind for name, kind in classes.items() if name[0] != "_"},
    }


def read_cuda() -> dict:
    import cuda.bindings
    from cuda.bindings import runtime

    def parameters(function):
        return [str(item) for item in inspect.signature(function).parameters]

    enums = {}
    for name in CUDA_ENUMS:
        members = {key: int(item) for key, item in getattr(runtime, name).__members__.items()}
        enums[name] = (
            members
            if name != "cudaError_t"
            else {
                key: members[key]
                for key in (
                    "cudaSuccess",
                    "cudaErrorInvalidValue",
                    "cudaErrorMemoryAllocation",
                    "cudaErrorNoDevice",
                    "cudaErrorInsufficientDriver",
                )
            }
        )
    return {
        "module": "cuda.bindings.runtime",
        "version": cuda.bindings.__version__,
        "enums": enums,
        "functions": {name: parameters(getattr(runtime, name)) for name in CUDA},
        "constants": {name: int(getattr(runtime, name)) for name in ("cudaStreamNonBlocking", "cudaHostAllocDefault")},
        "properties": [
            name for name in ("name", "major", "minor", "totalGlobalMem") if hasattr(runtime.cudaDeviceProp, name)
        ],
    }


def boost_parameters(function, is_method: bool) -> list[str]:
    """["name", "other=default"] of Boost.Python's first signature, "f( (int)a [, (int)b=0]) -> T :", or of Python's
    own; parameters without a name are arg1, arg2.
    """
    line = next((line for line in (function.__doc__ or "").splitlines() if re.match(r"\w+\(.*\) -> ", line)), None)
    if line is None:
        found = [
            str(p) if p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) else p.name
            for p in inspect.signature(function).parameters.values()
        ]
    else:
        found = [
            f"{name}{default}"
            for name, default in re.findall(
                r"\(\w+\)(\w+)((?:=[^\s,\[\]]*(?:\[\])?)?)", line[line.index("(") : line.rindex(") ->")]
            )
        ]
    return found[is_method:]


def read_pycuda() -> dict:
    import pycuda
    from pycuda import driver

    classes = {}
    for name in PYCUDA_CLASSES:
        facts = classes[name] = {"methods": {}, "static": {}, "properties": []}
        for key, value in vars(getattr(driver, name)).items():
            if isinstance(value, property):
                facts["properties"].append(key)
            elif isinstance(value, staticmethod):
                facts["static"][key] = boost_parameters(value.__func__, False)
            elif callable(value) and (key in ("__init__", "__int__", "__index__") or key[0] != "_"):
                if "cannot be instantiated" not in (value.__doc__ or ""):
                    facts["methods"][key] = boost_parameters(value, True)
    errors = [
        name
        for name, value in vars(driver).items()
        if isinstance(value, type) and issubclass(value, driver.Error) and value.__module__ == "pycuda._driver"
    ]
    return {
        "module": "pycuda.driver",
        "version": pycuda.VERSION_TEXT,
        "functions": {name: boost_parameters(getattr(driver, name), False) for name in PYCUDA},
        "classes": classes,
        "errors": sorted(errors, key=lambda name: (name != "Error", name)),
        "names": sorted(name for name in dir(driver) if name[0] != "_"),
    }


def with_idle_libcuda(folder: Path) -> dict:
    """The environment in which PyCUDA's driver interface loads: every function of libcuda that it wants is there."""
    [library] = folder.glob("pycuda/_driver*.so")
    command = ["nm", "-D", "--undefined-only", library]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    idle = Path(tempfile.mkdtemp())
    functions = "".join(
        f"int {name}(void) {{ return 0; }}\n"
        for name in re.findall(r"\bcu[A-Z]\w*", listed)
        if name != "cuDriverGetVersion"
    )
    version = "int cuDriverGetVersion(int *v) { *v = 13000; return 0; }\n"
    (idle / "idle.c").write_text(functions + version)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", idle / "libcuda.so.1", idle / "idle.c"], check=True)
    return {
        **os.environ,
        "LD_PRELOAD": str(idle / "libcuda.so.1"),
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
    }


def with_empty_libraries(folder: Path) -> dict:
    """The environment in which the bindings under `folder` load."""
    [name] = folder.glob("tensorrt_bindings/tensorrt.so")
    major = re.search(rb"libnvinfer\.so\.(\d+)", name.read_bytes())[1].decode()
    empty = Path(tempfile.mkdtemp())
    (empty / "empty.c").write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for library in LIBRARIES:
        target = f"lib{library}.so.{major}"
        subprocess.run(
            ["cc", "-shared", "-fPIC", f"-Wl,-soname,{target}", "-o", empty / target, empty / "empty.c"], check=True
        )
    return {**os.environ, "LD_LIBRARY_PATH": str(empty), "PYTHONPATH": str(folder)}


def main(what: str, folder: str = "", inside: str = "") -> None:
    if what == "rtx":
        write("tensorrt_rtx", read_rtx())
        return
    if what == "plugin":
        write("tensorrt.plugin", read_plugin(Path(folder)))
        return
    if not inside:  # again, with the bindings in reach
        folder = Path(folder).resolve()
        prepare = {
            "tensorrt": with_empty_libraries,
            "pycuda": with_idle_libcuda,
            "cuda": lambda folder: {**os.environ, "PYTHONPATH": str(folder)},
        }[what]
        subprocess.run([sys.executable, __file__, what, str(folder), "inside"], check=True, env=prepare(folder))
        return
    facts = {"tensorrt": read_tensorrt, "pycuda": read_pycuda, "cuda": read_cuda}[what]()
    write(what, facts)


def write(what: str, facts: dict) -> None:
    path = FACTS / f"{what}-{facts['version']}.json"
    path.write_text(json.dumps(facts, indent=1, default=_plain) + "\n", encoding="utf-8")
    print(path.name, path.stat().st_size)


def _plain(value):
    return int(value) if isinstance(value, enum.Enum) else str(value)


if __name__ == "__main__":
    main(*sys.argv[1:])
