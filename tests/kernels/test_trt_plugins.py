"""TensorRT's C++ plugins, compiled against its headers and run on the CPU by the emulator of the CUDA kernels.

TensorRT itself is not there: trt_plugin_driver.cpp does what it would, in its order, and every value is compared. The
headers are looked for where TensorRT installs them and in the folders of ZEROSEG_TENSORRT_INCLUDE, which may name
several, of several versions.
"""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.kernels.test_cuda import ROOT  # noqa: E402
from zeroseg.kernels.segment_attention import reference  # noqa: E402

DRIVER = Path(__file__).with_name("trt_plugin_driver.cpp")
CUDA = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"
PLACES = [
    *filter(None, os.environ.get("ZEROSEG_TENSORRT_INCLUDE", "").split(os.pathsep)),
    *map(str, Path("/usr/include").glob("*-linux-gnu")),
    "/usr/include",
    "/usr/local/tensorrt/include",
]
HEADERS = [folder for folder in PLACES if (Path(folder) / "NvInferRuntime.h").is_file()]
TYPES = {torch.float32: 0, torch.float16: 1, torch.int32: 3}  # nvinfer1::DataType
ATOL = {torch.float32: 1e-5, torch.float16: 2e-3}  # of the kernels' own tests

pytestmark = [
    pytest.mark.usefixtures("poison_torch"),
    pytest.mark.skipif(not HEADERS, reason="needs TensorRT's headers; ZEROSEG_TENSORRT_INCLUDE says where"),
    pytest.mark.skipif(not (CUDA / "cuda_runtime_api.h").is_file(), reason=f"needs the CUDA headers in {CUDA}"),
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"),
]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dims", ctypes.c_int64 * 8),
        ("most", ctypes.c_int64 * 8),
        ("rank", ctypes.c_int32),
        ("type", ctypes.c_int32),
    ]

    def __init__(self, array=None, most=()):
        if array is not None:
            super().__init__(
                array.data_ptr(), (*array.shape,), (*(most or array.shape),), array.ndim, TYPES[array.dtype]
            )


def sh(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def build_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("build")


@pytest.fixture(scope="module", params=HEADERS)
def built(request, build_folder, tmp_path_factory):
    """(plugin library, driver), both compiled against one version's headers."""
    sh(
        "cmake",
        "-S",
        ROOT,
        "-B",
        build_folder,
        "-DZEROSEG_CUDA_EMULATED=ON",
        f"-DZEROSEG_LIBRARY_DIR={build_folder}",
        "-U",
        "nvinfer_folder",
        f"-DZEROSEG_TENSORRT_INCLUDE={request.param}",
    )
    said = sh("cmake", "--build", build_folder, "--target", "zeroseg_trt_plugins_emulated")
    assert "warning" not in said, said
    [made] = build_folder.rglob("libzeroseg_trt_plugins_emulated.so")
    folder = tmp_path_factory.mktemp("plugins")
    library, driver = Path(shutil.copy(made, folder)), folder / "driver.so"
    sh(
        "c++",
        "-std=c++17",
        "-shared",
        "-fPIC",
        "-O1",
        "-isystem",
        request.param,
        "-isystem",
        CUDA,
        DRIVER,
        "-o",
        driver,
        "-ldl",
    )
    loaded = ctypes.CDLL(str(driver))
    loaded.zs_driver_problem.restype = loaded.zs_driver_log.restype = ctypes.c_char_p
    return library, loaded


def run(built, name, inputs, outputs, most=None, eps=1.0, soft_pooling=False):
    """Outputs are filled; returns the shapes and types that the plugin announced, and enqueue's status."""
    library, driver = built
    given = (Tensor * len(inputs))(
        *(Tensor(array, limit) for array, limit in zip(inputs, most or [()] * len(inputs), strict=True))
    )
    made = (Tensor * len(outputs))()
    for tensor, array in zip(made, outputs, strict=True):
        tensor.data = array.data_ptr()
    status = driver.zs_driver_run(
        str(library).encode(),
        name.encode(),
        ctypes.c_float(eps),
        int(soft_pooling),
        given,
        len(inputs),
        made,
        len(outputs),
    )
    assert status != 1, driver.zs_driver_problem().decode()
    return [(tuple(tensor.dims[: tensor.rank]), tensor.type) for tensor in made], status


@pytest.mark.parametrize("soft_pooling", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1, 1), (2, 197, 8, 24, 24), (3, 101, 7, 31, 13), (1, 540, 32, 48, 96)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_segment_attention(built, sizes, dtype, soft_pooling):
    """The profile goes beyond the shapes; a smaller batch needs more workspace than a larger one."""
    B, L, S, C, D = sizes
    q, k, v = torch.randn(B, S, C), torch.randn(B, L, C), torch.randn(B, L, D)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    pooled, soft = torch.empty(B, S, D, dtype=dtype), torch.empty(B, L, S)
    most = [(9 * B, S, C), (9 * B, 2 * L, C), (9 * B, 2 * L, D)]
    announced, status = run(
        built, "segment_attention", (q, k, v), (pooled, soft), most, eps=0.25, soft_pooling=soft_pooling
    )
    assert status == 0
    assert announced == [(tuple(pooled.shape), TYPES[dtype]), (tuple(soft.shape), TYPES[torch.float32])]
    truth = reference.segment_attention(
        q.double(),
        k.double(),
        v.double(),
        normalize_keys=False,
        soft_pooling=soft_pooling,
        eps=0.25,
        tau=1.0,
        seed=None,
    )
    torch.testing.assert_close(pooled.double(), truth[0], atol=ATOL[dtype], rtol=0)
    torch.testing.assert_close(soft.double(), truth[3], atol=1e-5, rtol=0)


def test_what_the_kernels_refuse_reaches_tensorrts_log(built):
    q, k = torch.randn(1, 65, 4), torch.randn(1, 9, 4)
    outputs = torch.empty(1, 65, 4), torch.empty(1, 9, 65)
    assert run(built, "segment_attention", (q, k, k), outputs)[1] == 2
    assert built[1].zs_driver_log() == b"zeroseg::segment_attention: segment_attention: at most 64 groups"


def test_library_exports_what_tensorrt_looks_for_and_needs_nothing_of_it(built):
    listed = sh("nm", "-D", "--defined-only", built[0])
    exported = set(re.findall(r" [A-Z] (\w+)", listed)) - {"zs_emulator_set_order"}  # the emulator's own
    assert exported == {"getCreators", "setLoggerFinder"}
    assert "nvinfer" not in sh("nm", "-D", "--undefined-only", built[0])
