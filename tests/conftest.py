"""Every test starts from the same seeds; GPU tests say why they were skipped.

Without a GPU Triton's interpreter runs the kernels. It must be asked for before anything imports triton, whose own
functions are compiled or interpreted once and for all: hence here, before any test is collected.
"""

import os
import random
import shutil
import signal
import sys

import numpy as np
import pytest

from tests.color_model import write_color_model

LONG_TESTS = {  # half a minute or more each; the readings' graphs, two clusters' parts and the kernels have other tests
    "tests/kernels/test_cuda.py::test_sanitizers_find_nothing_in_the_emulated_kernels",
    "tests/kernels/test_native.py::test_sanitizers_find_nothing",
    "tests/annotate/test_annotate_ray.py::test_a_cluster_that_loses_a_worker_equals_one_machine",
    "tests/export/test_tower_graphs.py::test_every_family_s_graph_equals_pytorch_and_passes_the_gate",
    "tests/export/test_tower_graphs.py::test_every_pooling_s_graph_equals_pytorch",
    "tests/training/test_processes.py::test_a_lost_process_ends_the_others_in_one_line",
    "tests/training/test_distill.py::test_two_processes_equal_one",
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker per core: more threads would only wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    import torch
except ImportError:
    pass
else:
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")

# a shell's background jobs ignore Ctrl-C, and so would all that is started and interrupted here
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # else no test of this session uses it, and importing it takes seconds
        sys.modules["torch"].manual_seed(0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Workers take whole files, in the order of collection, so that what a file's tests share is made once. Otherwise
    both of two workers trace the same network, build the same wheel and compile the same kernels.
    """
    if config.getoption("dist") != "load":  # --dist on the command line
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # files with few tests are the slow ones: not last
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items):
    if not os.environ.get("ZEROSEG_LONG_TESTS"):
        for item in items:
            if item.nodeid.partition("[")[0] in LONG_TESTS:
                item.add_marker(pytest.mark.skip(reason="takes long; set ZEROSEG_LONG_TESTS=1"))
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="torch.cuda.is_available() is False"))


@pytest.fixture(scope="session")
def color_model(tmp_path_factory):
    """The path of a model that finds red, green, blue and dark places; see color_model.py."""
    pytest.importorskip("onnx")
    return write_color_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def browser():
    """A Chromium with a camera that shows a pattern. One at a time: Playwright cannot be started twice in a process."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as runtime:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        try:
            browser = runtime.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started (apt install chromium): {str(error).splitlines()[0]}")
        yield browser
        browser.close()
