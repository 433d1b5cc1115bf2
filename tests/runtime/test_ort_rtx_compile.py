"""Compile for a named GPU through ONNX Runtime (the provider's option nv_target_sm) where there is no GPU.

ONNX Runtime, the provider and TensorRT for RTX are real. The driver and the CUDA runtime are stand-ins, and the one GPU
is described by a library of the tests, because the provider names none by itself on Linux.
"""

import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.stand_in import have_tools, make_cuda_runtime, make_driver, make_one_device
from zeroseg.artifact import read_artifact
from zeroseg.runtime.rtx_library import provider_folder

pytestmark = [
    pytest.mark.skipif(provider_folder() is None, reason="the extra rtx is not installed"),
    pytest.mark.skipif(bool(ctypes.util.find_library("cuda")), reason="there is an NVIDIA driver here"),
    pytest.mark.skipif(not have_tools(), reason="needs a C compiler and nm"),
]
ROOT = Path(__file__).resolve().parents[2]
LOOKED_UP = ["cudaDeviceGetByPCIBusId", "cudaGetDeviceProperties"]  # the described GPU, before anything is compiled

COMPILE = """
import json, os, sys
from pathlib import Path
import onnxruntime
import onnxruntime_ep_nv_tensorrt_rtx as provider
from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.runtime.opening import open_runner
from zeroseg.runtime.ort_rtx import provider_options, rtx_devices

model, library, log = map(Path, sys.argv[1:4])
artifact = read_artifact(model, "onnxruntime-rtx")
os.environ["STAND_IN_PROVIDER"] = provider.get_library_path()
provider.get_library_path = lambda: str(library)
devices, cases = rtx_devices(), []
for gpu, target in json.loads(sys.argv[4]):
    os.environ["STAND_IN_GPU"] = gpu
    log.write_text("")
    compiled = log.parent / f"{target}.onnx"
    try:
        if target is None:
            open_runner(artifact, 1)
        options = onnxruntime.SessionOptions()
        options.add_provider_for_devices(devices, provider_options(artifact) | {"nv_target_sm": target})
        onnxruntime.ModelCompiler(options, str(model), embed_compiled_data_into_model=True).compile_to_file(
            str(compiled)
        )
        said = ""
    except Exception as error:
        said = f"{type(error).__name__} {error}"
    cases.append({"gpu": gpu, "target": target, "said": said, "file": str(compiled), "calls": log.read_text().split()})
print(json.dumps(cases))
"""

ENTRIES = """
import ctypes, sys
from pathlib import Path
import onnxruntime
import onnxruntime_ep_nv_tensorrt_rtx as provider
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_uint32, c_void_p

[path] = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
library = ctypes.CDLL(str(path))
library.OrtGetApiBase.restype = POINTER(c_void_p)
api = ctypes.cast(ctypes.CFUNCTYPE(c_void_p, c_uint32)(library.OrtGetApiBase()[0])(24), POINTER(c_void_p))

def call(place, *arguments, result=c_void_p):
    types = (c_char_p if isinstance(argument, bytes) else c_void_p for argument in arguments)
    return ctypes.CFUNCTYPE(result, *types)(api[place])(*arguments)

def check(status):
    if status:
        sys.exit(call(2, status, result=c_char_p).decode())  # GetErrorMessage

class Options(ctypes.Structure):  # OrtEnvCreationOptions
    _fields_ = [("version", c_uint32), ("severity", c_int32), ("name", c_char_p), ("logger", c_void_p),
                ("parameter", c_void_p), ("threading", c_void_p), ("entries", c_void_p)]

name = provider.get_ep_name().encode()
entries, environment, devices, count = c_void_p(), c_void_p(), POINTER(c_void_p)(), c_size_t()
call(295, byref(entries), result=None)  # CreateKeyValuePairs
for key, value in ((b"allow_virtual_devices", b"1"), (b"ep_factory.%b.nv_target_sm" % name, b"sm89")):
    call(296, entries, key, value, result=None)  # AddKeyValuePair
options = Options(24, 3, b"test", None, None, None, entries)
check(call(406, byref(options), byref(environment)))  # CreateEnvWithOptions
check(call(301, environment, name, provider.get_library_path().encode()))  # RegisterExecutionProviderLibrary
check(call(303, environment, byref(devices), byref(count)))  # GetEpDevices
print(*(call(312, devices[i], result=c_char_p).decode() for i in range(count.value)))  # EpDevice_EpName
"""


def run(script, folder, *arguments):
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(folder), "STAND_IN_LOG": str(folder / "log"), "XDG_CACHE_HOME": str(folder / "cache")
    }  # fmt: skip
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    make_driver(folder)
    return folder


@pytest.fixture(scope="module")
def cases(stand_in, tmp_path_factory):
    """What the provider did: by the GPU that is described and the GPU to compile for, None for a session."""
    from tests.color_model import write_color_model

    folder = tmp_path_factory.mktemp("gpu")
    make_driver(folder)
    make_cuda_runtime(folder)
    model = write_color_model(folder)
    asked = [("8.9", "sm86"), ("8.9", "sm120"), ("8.6", None), ("8.9", "sm80"), ("8.0", "sm89"), ("9.0", "sm121")]
    found = json.loads(run(COMPILE, folder, model, make_one_device(folder), folder / "log", json.dumps(asked)))
    return {(case["gpu"], case["target"]): case for case in found} | {"model": model}


@pytest.mark.parametrize("target", ["sm86", "sm120"])
def test_it_compiles_the_whole_graph_and_asks_cuda_for_nothing(rtx, cases, target):
    """Our options, the real provider: one node, whose engine the library takes for one of its own, as it takes ours."""
    import onnx

    from zeroseg.export.trt.builder import BuildOptions, build_plan

    case = cases["8.9", target]
    assert case["said"] == "" and case["calls"] == LOOKED_UP
    graph, plain = (onnx.load(path).graph for path in (case["file"], cases["model"]))
    [node] = graph.node
    assert (node.domain, node.op_type) == ("com.microsoft", "EPContext") and not graph.initializer
    assert list(node.input) == ["image"] and set(node.output) == {value.name for value in plain.output}
    [engine] = (attribute.s for attribute in node.attribute if attribute.name == "ep_cache_context")

    sidecar = read_artifact(cases["model"]).sidecar
    options = BuildOptions(capabilities=(target,), max_batch=8)
    ours = build_plan(rtx, Path(cases["model"]).read_bytes(), "colors.onnx", sidecar, options, show_progress=False)
    runtime = rtx.Runtime(rtx.Logger(rtx.Logger.INTERNAL_ERROR))
    size = runtime.engine_header_size
    told, told_of_ours, told_of_junk = (
        runtime.get_engine_validity(header) for header in (engine[:size], bytes(ours.content)[:size], bytes(size))
    )
    assert told == told_of_ours != told_of_junk
    assert 0.9 < len(engine) / len(bytes(ours.content)) < 1.1


def test_a_session_asks_for_the_gpu(cases):
    """What compiling does without: the first call of an ordinary session that the stand-in cannot answer."""
    case = cases["8.6", None]
    assert case["said"].startswith(f"ZerosegError {cases['model']}: TensorRT for RTX cannot load it: ")
    assert "CUDA failure 100: stand-in" in case["said"] and "\n" not in case["said"]
    assert case["calls"][:3] == [*LOOKED_UP, "cudaSetDevice"]


@pytest.mark.parametrize("gpu, target, said", [
    ("8.9", "sm80", "Invalid nv_target_sm value: 'sm80'. Valid values are: sm86, sm89, sm120, sm121."),
    ("8.0", "sm89", "could not be resolved to a supported CUDA device"),
    ("9.0", "sm121", "could not be resolved to a supported CUDA device"),
])  # fmt: skip
def test_gpus_that_the_provider_does_not_take(cases, gpu, target, said):
    """Why the back end's messages name compute capability 8.6, 8.9 and 12.0."""
    assert said in cases[gpu, target]["said"] and cases[gpu, target]["calls"] == LOOKED_UP


def test_the_environments_entries_bring_no_device_on_linux(stand_in):
    """The documented way to a device that is only described. Should a later provider list one here, this says so."""
    assert run(ENTRIES, stand_in).split() == ["CPUExecutionProvider"]
    assert (stand_in / "log").read_text().split() == ["cuInit"]
