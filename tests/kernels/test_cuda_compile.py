"""The CUDA library as nvcc builds it: what it exports, what it answers without a GPU, the report of its compiling."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from zeroseg.bench import cuda_compile
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.kernels import _cuda

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "kernels" / "csrc" / "cuda" / "zeroseg_cuda.h").read_text(encoding="utf-8")
try:
    NVCC = cuda_compile.find_nvcc()
except UnavailableError:
    NVCC = None
needs_nvcc = pytest.mark.skipif(not (NVCC and shutil.which("cmake")), reason="needs CMake and nvcc of the CUDA toolkit")
PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z3addIfEvPT_' for 'sm_87'
ptxas info    : Function properties for _Z3addIfEvPT_
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 8 bytes cumulative stack size, 2048 bytes smem, 380 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4zero' for 'sm_87'
ptxas info    : Function properties for _Z4zero
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library for Jetson Orin alone: every source, one architecture."""
    folder = tmp_path_factory.mktemp("cuda")
    for command in (
        [
            "cmake",
            "-S",
            ROOT,
            "-B",
            folder,
            "-DZEROSEG_CUDA=ON",
            "-DZEROSEG_CUDA_ONLY=87",
            f"-DZEROSEG_LIBRARY_DIR={folder}",
        ],
        ["cmake", "--build", folder, "--target", "zeroseg_cuda", "--parallel", "2"],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "libzeroseg_cuda.so"


@needs_nvcc
def test_exports_are_those_of_the_header(library):
    listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True).stdout
    declared = re.findall(r"\b(zs_cuda_\w+)\(", HEADER)
    assert sorted(line.split()[-1] for line in listed.splitlines()) == sorted({*declared})
    assert len({*declared}) >= 5


@needs_nvcc
def test_it_answers_without_a_gpu(library, monkeypatch):
    """It loads beside no driver at all, refuses wrong arguments, and gives CUDA's reason for what it cannot launch."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU: tests marked gpu run the kernels")
    monkeypatch.setenv("ZEROSEG_CUDA_LIBRARY", str(library))
    _cuda._library.cache_clear()
    try:
        assert _cuda.missing() is None and not _cuda.emulated()
        cpu = torch.device("cpu")
        assert "needs tensors on a device of type cuda, got cpu" in _cuda.why_not(cpu)
        with pytest.raises(ValueError, match="preprocess: null array"):
            _cuda.call("zs_cuda_preprocess", cpu, _cuda.PreprocessArgs(out_type=0))
        args = _cuda.PreprocessArgs(
            image=16,
            out=16,
            row_stride=3,
            pixel_stride=3,
            channel_stride=1,
            batch=1,
            height=1,
            width=1,
            out_height=1,
            out_width=1,
            out_type=0,
            scale=(ctypes.c_float * 3)(1, 1, 1),
        )
        with pytest.raises(RuntimeError, match="preprocess: .*(CUDA|driver|device)"):
            _cuda.call("zs_cuda_preprocess", cpu, args)
    finally:
        _cuda._library.cache_clear()


def test_registers_and_spills_are_read_from_ptxas():
    read = cuda_compile.read_ptxas(PTXAS)
    assert list(read.values()) == [
        {"registers": 40, "spill_bytes": 28, "stack_bytes": 8, "shared_bytes": 2048},
        {"registers": 8, "spill_bytes": 0, "stack_bytes": 0, "shared_bytes": 0},
    ]


def test_it_compiles_what_cmake_does():
    assert cuda_compile.capabilities() == ["75", "80", "86", "87", "89", "90", "100", "110", "120"]
    library = {path for path in (ROOT / "kernels").rglob("*.cu") if path.parent.name != "tensorrt"}  # a library apart
    assert {*cuda_compile.sources()} == library
    assert all(path.is_file() for path in cuda_compile.sources())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "orin"], "--only 'orin': expected capabilities such as 87,90"),
        (["--only", "7"], "supports none of sm_7"),
    ],
)
@needs_nvcc
def test_bad_capabilities_are_one_line(arguments, message):
    done = CliRunner().invoke(cuda_compile.main, arguments)
    assert done.exit_code and message in done.output and "Traceback" not in done.output


@needs_nvcc
def test_a_source_that_does_not_compile_is_named(tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void f() { undeclared = 1; }\n")
    with pytest.raises(ZerosegError, match=r'wrong\.cu for sm_90: .*identifier "undeclared" is undefined'):
        cuda_compile.compile_one(NVCC, "90", source, tmp_path)


def test_without_nvcc_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    done = CliRunner().invoke(cuda_compile.main, [])
    assert done.exit_code and "nvcc was not found; install the CUDA toolkit or set CUDA_HOME" in done.output
