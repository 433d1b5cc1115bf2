"""The TensorRT runner: values, order on the stream, graphs, and what it says when it cannot run.

Engines of the fake run in ONNX Runtime on the addresses they were given, and nothing on the stream happens before
someone waits, so equal outputs mean that every copy and shape was right.
"""

import numpy as np
import pytest

from tests.export.trt.conftest import GPU_LIBRARIES
from tests.export.trt.fake_machine import FakeMachine
from tests.export.trt.fake_tensorrt import VERSIONS
from tests.export.trt.test_engine import build  # noqa: F401 - a fixture
from zeroseg.artifact import read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.runtime.opening import open_runner
from zeroseg.segment.segmenter import Segmenter


def image_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("library", GPU_LIBRARIES)
@pytest.mark.parametrize("version", VERSIONS)
def test_outputs_are_the_networks(build, network, version, library):  # noqa: F811
    """Both shapes on one engine; the fifth run of a shape as the first."""
    trt, engine = build(version, library, max_batch=2)
    reference, runner = open_runner(read_artifact(network), 1), open_runner(read_artifact(engine), 1)
    assert runner.backend == "tensorrt"
    captured = trt.machine.captured
    shapes = [(1, 3, 64, 96)] * 3 + [(2, 3, 128, 32)] + [(1, 3, 64, 96)] * 2
    for seed, shape in enumerate(shapes):
        image = image_of(shape, seed)
        expected, got = reference.run(image), runner.run(image)
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name])
    if library.startswith("cuda"):  # PyCUDA cannot capture
        assert trt.machine.captured - captured == 2 and runner.replays == 3
    else:
        assert trt.machine.captured == 0 and runner.replays == 0
    runner.close()


def test_results_outlive_the_next_run(build):  # noqa: F811
    _, engine = build()
    runner = open_runner(read_artifact(engine), 1)
    first = runner.run(image_of((1, 3, 32, 32)))
    kept = first["segment_maps"].copy()
    runner.run(image_of((1, 3, 32, 32), seed=1))
    np.testing.assert_array_equal(first["segment_maps"], kept)


@pytest.mark.parametrize("library", GPU_LIBRARIES)
def test_close_gives_everything_back(build, library):  # noqa: F811
    trt, engine = build(library=library)
    before = len(trt.machine.device_blocks)
    runner = open_runner(read_artifact(engine), 1)
    runner.run(image_of((1, 3, 32, 32)))
    assert len(trt.machine.device_blocks) == before + 4
    runner.close()
    assert len(trt.machine.device_blocks) == before


@pytest.mark.parametrize("shape", [(1, 3, 160, 64), (2, 3, 64, 64)])
def test_shapes_beyond_the_profile_name_it(build, shape):  # noqa: F811
    _, engine = build()
    runner = open_runner(read_artifact(engine), 1)
    with pytest.raises(ZerosegError, match=r"the engine takes \(.*\) to \(.*\), got .*rebuild it here: .*wider limits"):
        runner.run(image_of(shape))
    runner.run(image_of((1, 3, 64, 64)))  # and goes on


def test_segmenter_gives_the_networks_masks(build, network, unit_rows):  # noqa: F811
    from zeroseg.export.parity import draw_scene
    from zeroseg.words import LabelPack

    _, engine = build()
    photo = draw_scene(np.random.default_rng(3), (90, 120))
    pack = LabelPack(names=list("abc"), vectors=unit_rows(3), space="test/space")
    got, expected = (
        Segmenter.load(path, backend).set_labels(pack).segment(photo)
        for path, backend in ((engine, "tensorrt"), (network, "onnxruntime"))
    )
    np.testing.assert_array_equal(got.label_map, expected.label_map)
    assert len(np.unique(got.label_map)) > 1


@pytest.mark.parametrize("version, library, machine, said", [
    (None, "cuda-13.5.0", None, "back end tensorrt needs TensorRT: its Python package is not installed"),
    ("10.3.0", None, None, "no library for GPU memory is installed (looked for cuda-bindings and pycuda)"),
    ("10.3.0", "cuda-13.5.0", FakeMachine(gpus=0), "no NVIDIA GPU available here"),
    ("10.3.0", "pycuda-2026.1", FakeMachine(gpus=0), "no NVIDIA GPU available here"),
])  # fmt: skip
def test_what_is_missing_is_said_with_what_would_work(build, install, version, library, machine, said):  # noqa: F811
    _, engine = build()
    install(machine, version, library)
    with pytest.raises(UnavailableError) as caught:
        Segmenter.load(engine)
    message = str(caught.value)
    assert said in message and message.endswith("run the .onnx file with backend onnxruntime") and "\n" not in message


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.1"])
def test_unknown_tensorrt_is_refused(build, version):  # noqa: F811
    trt, engine = build()
    trt.__version__ = version
    with pytest.raises(UnavailableError, match=f"TensorRT {version} is installed; zeroseg supports 10.3 to 11.x"):
        Segmenter.load(engine)


def test_facts_hold_the_fake(install):
    """The fake refuses what the versions do not have; a fake that took everything would prove nothing."""
    old, new = install(version="10.3.0"), install(version="11.4.0.106")
    assert old.BuilderFlag.FP16 and old.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    for missing in (
        lambda: new.BuilderFlag.FP16,
        lambda: new.NetworkDefinitionCreationFlag.EXPLICIT_BATCH,
        lambda: new.IInt8Calibrator,
        lambda: old.NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS,
    ):
        with pytest.raises(AttributeError):
            missing()

    class Logger(new.ILogger):
        def __init__(self):
            new.ILogger.__init__(self)

    class Forgetful(new.ILogger):
        def __init__(self):
            pass

    builder = new.Builder(Logger())
    config = builder.create_builder_config()
    with pytest.raises(TypeError):
        1 << new.BuilderFlag.DEBUG  # noqa: B018
    with pytest.raises(TypeError, match="incompatible arguments"):
        builder.create_network(flag=1)
    with pytest.raises(TypeError, match="incompatible arguments"):
        config.set_flag("TF32")
    with pytest.raises(TypeError, match="incompatible arguments"):
        new.Builder("a logger")
    with pytest.raises(AttributeError):
        config.int8_calibrator = None
    with pytest.raises(AttributeError):
        config.num_optimization_profiles = 2
    with pytest.raises(NotImplementedError):
        new.Runtime(Logger()).load_runtime("lean.so")
    with pytest.raises(TypeError, match="No constructor"):
        new.IExecutionContext()
