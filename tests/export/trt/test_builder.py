"""What is said to TensorRT of each version while building: held to that version's facts, done by a real library."""

import signal
from pathlib import Path

import pytest

from tests.export.trt.fake_tensorrt import VERSIONS
from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.export.trt.builder import CACHE_MARK, BuildOptions, build_plan, choose_dialect
from zeroseg.export.trt.progress import Phases

OPTIONS = BuildOptions(max_batch=2)


@pytest.fixture
def build(install, network):
    def build(version="10.3.0", options=OPTIONS, onnx=None, **state):
        trt = install(version=version)
        vars(trt.record).update(state)
        notes = []
        sidecar = read_artifact(network).sidecar
        plan = build_plan(
            trt, network.read_bytes() if onnx is None else onnx, network.name, sidecar, options, notes.append
        )
        return trt.record, plan, notes

    return build


@pytest.mark.parametrize("version", VERSIONS)
def test_profile_and_limits_reach_tensorrt(build, version):
    record, plan, _ = build(version, BuildOptions(max_batch=2, workspace_mib=300))
    assert plan.content.nbytes > 1000
    assert record.profiles == [{"image": [[1, 3, 32, 32], [1, 3, 64, 96], [2, 3, 128, 128]]}]
    assert record.pools == {"WORKSPACE": 300 * 2**20}
    assert record.flags == set() and record.level is None


@pytest.mark.parametrize("version, flags", [("10.3.0", 2), ("10.16.1.11", 2), ("11.4.0.106", 0)])
def test_dialect_follows_the_version(build, version, flags):
    """10: the bit of STRONGLY_TYPED, whose number is 1; 11: it is always so, and the flag deprecated."""
    assert build(version)[0].network_flags == flags


def test_dialects_precision_never_comes_from_flags():
    assert choose_dialect("10.3.0").network_flags == ("STRONGLY_TYPED",)
    assert choose_dialect("11.0.0.114").network_flags == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_compatibility_is_asked_for_by_option(build, version):
    record, _, _ = build(version, BuildOptions(version_compatible=True, hardware_compatible=True))
    assert record.flags == {"VERSION_COMPATIBLE"} and record.level == "AMPERE_PLUS"


@pytest.mark.parametrize("version", VERSIONS)
def test_timing_cache_is_kept_between_builds(build, version, tmp_path):
    options = BuildOptions(timing_cache=tmp_path / "timings")
    build(version, options)
    assert (tmp_path / "timings").read_bytes() == CACHE_MARK + b"timed;"
    _, _, notes = build(version, options)
    assert (tmp_path / "timings").read_bytes() == CACHE_MARK + b"timed;timed;" and notes == []


def test_timing_cache_of_another_machine_is_replaced(build, tmp_path):
    (tmp_path / "timings").write_bytes(CACHE_MARK + b"another GPU's")
    _, _, notes = build(options=BuildOptions(timing_cache=tmp_path / "timings"))
    assert "another GPU or TensorRT" in notes[0]
    assert (tmp_path / "timings").read_bytes() == CACHE_MARK + b"timed;"


def test_timings_that_cannot_be_written_do_not_cost_the_engine(build, tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    _, plan, notes = build(options=BuildOptions(timing_cache=tmp_path / "timings"))
    assert plan.content.nbytes > 1000 and "No space left" in notes[0]
    assert not (tmp_path / ".timings.partial").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_parser_error_names_the_node(build, network, version):
    import onnx

    model = onnx.load(network)
    model.graph.node[3].op_type, model.graph.node[3].name = "Einstein", "head.scores"
    with pytest.raises(ZerosegError) as caught:
        build(version, onnx=model.SerializeToString())
    start = f"net.onnx: TensorRT {version} cannot read it: node 3 (Einstein 'head.scores'): "
    assert str(caught.value).startswith(start) and "lugin not found" in str(caught.value)


def test_what_is_no_network_is_named(build):
    with pytest.raises(ZerosegError, match=r"net.onnx: TensorRT 10.3.0 cannot read it: "):
        build(onnx=b"not a network")


@pytest.mark.parametrize("version", VERSIONS)
def test_build_error_is_tensorrts_own(build, version):
    """TensorRT for RTX, which builds here, has no float32 products for Turing."""
    with pytest.raises(ZerosegError, match=r"cannot build an engine: .*FP32 GEMM is not supported"):
        build(version, capability="SM75")


def test_progress_counts_nested_phases():
    phases = Phases()
    phases.start("outer", None, 2)
    assert phases.share() == 0
    phases.start("inner", "outer", 4)
    phases.step("inner", 0)
    assert phases.share() == pytest.approx(1 / 8)
    phases.step("inner", 3)
    phases.finish("inner")
    phases.step("outer", 0)
    assert phases.share() == pytest.approx(1 / 2)
    phases.step("outer", 1)
    phases.finish("outer")
    assert phases.share() == 1


def test_progress_is_reported(build):
    assert build(always_build=True)[0].monitored


@pytest.mark.parametrize("callback", ["start", "step", "finish"])
@pytest.mark.parametrize("come", ["signal", "exception"])
def test_ctrl_c_ends_the_build_between_two_steps(build, monkeypatch, callback, come):
    """It never passes through TensorRT, whose process would end: its builder gets "stop" and gives no engine."""
    before, stopped = signal.getsignal(signal.SIGINT), []

    def interrupt(self, *arguments):
        stopped.append(callback)
        if come == "exception":
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Phases, callback, interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(always_build=True)
    assert stopped and signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("wrong, said", [
    ({"max_batch": 0}, "expected at least 1"),
    ({"workspace_mib": -1}, "expected at least 1"), ({"plugins": "v4"}, "plugins: expected one of none, aot, v3"),
    ({"plugins": "aot", "hardware_compatible": True}, "compiled for this GPU"),
])  # fmt: skip
def test_wrong_options_are_refused(wrong, said):
    with pytest.raises(ZerosegError, match=said):
        BuildOptions(**wrong)
