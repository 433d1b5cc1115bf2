"""Engines of TensorRT for RTX through the runner: held to the API of its version, on a GPU that is none."""

import numpy as np
import pytest

from tests.export.trt.fake_machine import FakeMachine
from tests.export.trt.fake_tensorrt import RTX
from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.export.trt import rtx as export
from zeroseg.export.trt.builder import BuildOptions
from zeroseg.runtime import trt_runner
from zeroseg.runtime.opening import open_runner
from zeroseg.runtime.trt_engine import read_engine

ADA = FakeMachine("RTX 4060", (8, 9))


@pytest.fixture
def use(install, monkeypatch):
    """use(machine) -> the fake TensorRT for RTX on that machine, as both exporter and runner load it"""

    def use(machine=ADA):
        trt = install(machine, RTX)
        for module in (export, trt_runner):
            monkeypatch.setattr(module, "load_rtx", lambda purpose: trt)
        return trt

    return use


@pytest.fixture
def engine(use, network):
    use()
    out = network.with_suffix(".rtx")
    export.build_rtx(network, out, BuildOptions(max_batch=2, capabilities=("sm86", "sm89")), show_progress=False)
    return out


def image_of(shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def test_outputs_are_the_networks(engine, network, use):
    trt = use()
    reference = open_runner(read_artifact(network), 1)
    with open_runner(read_artifact(engine), 1) as runner:
        assert runner.backend == "tensorrt-rtx" and runner.largest_batch == 2
        for shape in [(1, 3, 64, 96)] * 3 + [(2, 3, 128, 32)]:
            image = image_of(shape)
            expected, got = reference.run(image), runner.run(image)
            for name in expected:
                np.testing.assert_array_equal(got[name], expected[name])
        assert runner.replays == 2 and trt.machine.captured


def test_nothing_is_captured_while_the_library_compiles(engine, use):
    trt = use()
    trt.record.compiling = True
    with open_runner(read_artifact(engine), 1) as runner:
        for _ in range(3):
            runner.run(image_of((1, 3, 64, 96)))
        assert runner.replays == 0
        trt.record.compiling = False
        runner.run(image_of((1, 3, 64, 96)))
        assert runner.replays == 1


def test_what_was_compiled_is_there_at_the_next_start(engine, use):
    use()
    cache = engine.with_name("net.rtx.cache")
    runner = open_runner(read_artifact(engine), 1)
    runner.run(image_of((1, 3, 64, 96)))
    assert cache.read_text().splitlines()[0] == "RTX 4060" and "64, 96" in cache.read_text()  # before it is closed
    with open_runner(read_artifact(engine), 1) as again:
        again.run(image_of((1, 3, 32, 32)))
    assert "64, 96" in cache.read_text() and "32, 32" in cache.read_text()


@pytest.mark.parametrize("machine, said", [
    (FakeMachine("T4", (7, 5)), "built for compute capability 8.6, 8.9, here is T4 (7.5)"),
    (FakeMachine("RTX 5090", (12, 0)), "built for compute capability 8.6, 8.9, here is RTX 5090 (12.0)"),
])  # fmt: skip
def test_another_gpu_is_told(engine, use, machine, said):
    trt = use(machine)
    with pytest.raises(ZerosegError) as caught:
        open_runner(read_artifact(engine), 1)
    hint = "rebuild it here: zeroseg-export --rtx sm86,sm89 net.onnx -o net.rtx --max-batch 2"
    assert str(caught.value) == f"{engine}: {said}; {hint}" and trt.record.deserialized == 0


def test_an_engine_that_the_header_rules_out_is_not_loaded(engine, use):
    trt = use()
    trt.record.invalid = 4
    with pytest.raises(
        ZerosegError, match="net.rtx: the NVIDIA driver is too old; rebuild it here: zeroseg-export --rtx"
    ):
        open_runner(read_artifact(engine), 1)
    assert trt.record.deserialized == 0


def test_a_damaged_engine_never_reaches_the_library(engine, use):
    trt = use()
    engine.write_bytes(engine.read_bytes()[:-7])
    with pytest.raises(ZerosegError, match="truncated"):
        open_runner(read_artifact(engine), 1)
    engine.with_name("net.rtx.json").unlink()
    with pytest.raises(ZerosegError, match="its manifest .* is missing.*build it with zeroseg-export --rtx"):
        read_engine(engine)
    assert trt.record.deserialized == 0
