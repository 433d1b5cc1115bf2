"""The native library as a library: sanitizers find nothing, only its interface is visible, other builds are refused."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from zeroseg.kernels import _native, _threads
from zeroseg.kernels.mask_decode import mask_decode

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"
)
needs_library = pytest.mark.skipif(_native.why_not() is not None, reason=str(_native.why_not()))


@pytest.fixture
def fresh_library():
    _native._library.cache_clear()
    yield
    _native._library.cache_clear()


@pytest.mark.slow
@needs_compiler
def test_sanitizers_find_nothing(tmp_path):
    for command in (
        ["cmake", "-S", ROOT, "-B", tmp_path, "-DZEROSEG_SANITIZE=ON", f"-DZEROSEG_LIBRARY_DIR={tmp_path}"],
        ["cmake", "--build", tmp_path, "--target", "check_native", "--parallel", "2"],
        [tmp_path / "kernels" / "check_native"],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout


@needs_compiler
def test_checkout_with_a_compiler_has_the_library():
    """So that a suite in which every native test was skipped cannot pass for one that ran them."""
    assert _native.why_not() is None


@needs_library
@pytest.mark.skipif(not shutil.which("nm"), reason="needs nm")
def test_only_the_interface_is_visible():
    path = Path(_native.__file__).parent / _native._NAME
    listed = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True)
    ours = {line.split()[-1] for line in listed.stdout.splitlines() if "zs" in line}
    assert ours == {
        "zs_abi_version",
        "zs_best_products",
        "zs_guided_decode",
        "zs_last_error",
        "zs_mask_decode",
        "zs_preprocess",
        "zs_tint",
    }


@needs_library
def test_status_becomes_an_error_with_its_message():
    with pytest.raises(ValueError, match="mask_decode: null array"):
        _native.call(
            "zs_mask_decode",
            None,
            *[ctypes.c_int64(1)] * 3,
            None,
            ctypes.c_float(0),
            *[ctypes.c_int64(1)] * 2,
            ctypes.c_int32(2),
            None,
            None,
            None,
            ctypes.c_int32(1),
        )


@needs_library
def test_library_of_other_sources_is_refused(monkeypatch, fresh_library):
    monkeypatch.setattr(_native, "ABI_VERSION", 99)
    assert "was built from other sources (interface 5, expected 99); install zeroseg again" in _native.why_not()


def test_missing_library_says_how_to_get_it(monkeypatch, fresh_library):
    monkeypatch.setattr(_native, "_NAME", "libnowhere.so")
    assert "libnowhere.so was not built; with a C++ compiler and CMake, `pip install .` builds it" in _native.why_not()


def test_file_that_is_no_library_is_named(monkeypatch, fresh_library):
    monkeypatch.setattr(_native, "_NAME", "CMakeLists.txt")
    assert "CMakeLists.txt: " in _native.why_not()


@needs_library
def test_threads_do_not_change_the_result():
    maps = np.random.rand(8, 20, 27).astype(np.float32)
    results = []
    try:
        for count in (1, 2, 7):
            _threads.set_threads(count)
            results.append(mask_decode(maps, np.arange(8), (1080, 1920), impl="native"))
    finally:
        _threads.set_threads(None)
    for label_map, confidence in results[1:]:
        np.testing.assert_array_equal(label_map, results[0][0])
        np.testing.assert_array_equal(confidence, results[0][1])
