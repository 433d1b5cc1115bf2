"""Back end onnxruntime-rtx: what can be shown of it without an RTX GPU.

The provider's library is real. It wants NVIDIA's driver; a stand-in for the driver's two libraries, whose functions
say that there is no device and write down that they were called, lets it load.
"""

import ctypes
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.stand_in import have_tools, make_driver
from zeroseg.artifact import read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime import ort_rtx
from zeroseg.runtime.opening import open_runner
from zeroseg.runtime.rtx_library import PROVIDER, load_cuda_runtime, provider_folder

needs_package = pytest.mark.skipif(provider_folder() is None, reason="the extra rtx is not installed")
needs_no_driver = pytest.mark.skipif(bool(ctypes.util.find_library("cuda")), reason="there is an NVIDIA driver here")
RUN = """
import sys
from zeroseg.runtime.ort_rtx import rtx_devices
try:
    rtx_devices()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The folder with libraries that have every function of the driver that the provider names."""
    if not have_tools():
        pytest.skip("needs a C compiler and nm")
    folder = tmp_path_factory.mktemp("driver")
    make_driver(folder)
    return folder


@needs_package
@needs_no_driver
def test_without_a_driver_it_says_so(color_model):
    with pytest.raises(UnavailableError) as caught:
        open_runner(read_artifact(color_model, "onnxruntime-rtx"), 1)
    message = str(caught.value)
    assert (
        message.startswith("back end onnxruntime-rtx cannot run here: libcuda.so.1: cannot open")
        and "\n" not in message
    )
    assert message.endswith("use back end onnxruntime")


@needs_package
@needs_no_driver
def test_with_a_driver_and_no_gpu_it_says_so(stand_in):
    """The real library loads, registers with the real ONNX Runtime, and asks the driver for a GPU."""
    log = stand_in / "log"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(stand_in), "STAND_IN_LOG": str(log)}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, timeout=120, env=environment, cwd=root
    )
    assert done.stdout.startswith(
        "UnavailableError back end onnxruntime-rtx cannot run here: its provider finds no RTX"
    ), done.stdout + done.stderr
    assert "cuInit" in log.read_text().split()


@needs_package
def test_the_cuda_runtime_is_the_wheels_where_the_system_has_none(monkeypatch):
    """The wheel has it under its full version, which is not the name that the provider asks for."""
    from_path = ctypes.CDLL

    def load(name):
        if os.sep not in name:
            raise OSError(f"{name}: cannot open shared object file")
        return from_path(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    load_cuda_runtime()
    mapped = Path("/proc/self/maps").read_text()
    assert str(provider_folder().resolve() / "libcudart.so.13.") in mapped


def test_without_the_package_it_says_what_to_install(color_model, monkeypatch):
    monkeypatch.setitem(sys.modules, PROVIDER, None)
    with pytest.raises(UnavailableError, match=r"onnxruntime-rtx is not installed .*pip install 'zeroseg\[rtx\]'"):
        open_runner(read_artifact(color_model, "onnxruntime-rtx"), 1)


def test_an_older_onnxruntime_is_named(color_model, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    with pytest.raises(UnavailableError, match=r"needs onnxruntime 1.24 or later, found 1.23.2"):
        open_runner(read_artifact(color_model, "onnxruntime-rtx"), 1)


def test_what_the_provider_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ort_rtx.provider_options(read_artifact(None, "onnxruntime-rtx")) == {
        "nv_profile_min_shapes": "image:1x3x32x32",
        "nv_profile_opt_shapes": "image:1x3x288x384",
        "nv_profile_max_shapes": "image:8x3x640x640",
        "nv_runtime_cache_path": str(tmp_path / "zeroseg" / "rtx"),
    }


def test_the_session_runs_on_the_devices_provider(color_model, monkeypatch):
    """ONNX Runtime's own CPU device in the GPU's place: the calls are those it takes, and the values are right."""
    import onnxruntime

    [cpu] = [device for device in onnxruntime.get_ep_devices() if device.ep_name == "CPUExecutionProvider"]
    monkeypatch.setattr(ort_rtx, "rtx_devices", lambda: [cpu])
    runner, plain = (open_runner(read_artifact(color_model, name), 1) for name in ("onnxruntime-rtx", "onnxruntime"))
    assert runner.backend == "onnxruntime-rtx" and runner.largest_batch == ort_rtx.MAX_BATCH
    image = np.random.default_rng(0).random((2, 3, 64, 96)).astype(np.float32)
    got, expected = runner.run(image), plain.run(image)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


def test_a_file_that_cannot_be_loaded_is_named(color_model, tmp_path, monkeypatch):
    import onnxruntime

    def refuse(*arguments):
        raise RuntimeError("[ONNXRuntimeError] : no kernel\nand a second line")

    monkeypatch.setattr(ort_rtx, "rtx_devices", lambda: onnxruntime.get_ep_devices()[:1])
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ZerosegError, match=r"TensorRT for RTX cannot load it: \[ONNXRuntimeError\] : no kernel$"):
        open_runner(read_artifact(color_model, "onnxruntime-rtx"), 1)
