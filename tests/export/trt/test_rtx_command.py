"""zeroseg-export --rtx with the real library: an engine and its manifest without a GPU, or one line."""

import json
import signal
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.export.trt.builder import BuildOptions, build_plan
from zeroseg.export.trt.layers import HEADER
from zeroseg.export.trt.rtx import CAPABILITIES, PORTABLE, build_rtx, read_capabilities
from zeroseg.files import sha256
from zeroseg.runtime import rtx_library
from zeroseg.runtime.trt_engine import read_engine

pytest.importorskip("onnx")


def invoke(*arguments):
    from zeroseg.export.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def files_beside(path):
    return sorted(entry.name for entry in path.parent.iterdir())


@pytest.mark.parametrize("asked, capabilities", [(("--rtx", "sm86,sm89"), ["8.6", "8.9"]), (("--rtx",), [])])
def test_engine_and_manifest_are_written(rtx, network, asked, capabilities):
    out = network.parent / "deploy" / "net.rtx"
    out.parent.mkdir()
    done = invoke(network, *asked, "-o", out, "--layers", out.with_suffix(".tsv"), "--max-batch", 2)
    assert done.exit_code == 0, done.output
    assert "built but not run" in done.output.splitlines()[-1]
    assert files_beside(out) == ["net.rtx", "net.rtx.json", "net.tsv"]
    manifest = read_engine(out).manifest
    assert (manifest.gpu, manifest.sm, manifest.tensorrt) == ("", "", rtx.__version__)
    assert manifest.capabilities == capabilities and manifest.onnx_sha256 == sha256(network)
    assert manifest.profile == {"image": [[1, 3, 32, 32], [1, 3, 64, 96], [2, 3, 128, 128]]}
    # the two convolutions, 8 and 16 kernels of 3 x 16 x 16, are the network's weights
    assert manifest.weights_bytes >= 24 * 3 * 16 * 16 * 4 and manifest.activation_bytes > 0
    assert 0 < manifest.build_seconds < 60
    assert manifest.rebuild.startswith(f"zeroseg-export --rtx {','.join(asked[1:]) or PORTABLE} net.onnx -o net.rtx")
    header, *rows = (line.split("\t") for line in out.with_suffix(".tsv").read_text().splitlines())
    assert tuple(header) == HEADER
    convolutions = [dict(zip(HEADER, row, strict=True)) for row in rows if row[1] == "correlation"]
    assert convolutions and all(row["inputs"] == "Float[-1,3,-1,-1]" for row in convolutions)


def test_rebuild_command_makes_the_same_engine(rtx, network, monkeypatch):
    monkeypatch.chdir(network.parent)
    assert invoke(network, "--rtx", "sm89", "--max-batch", 3).exit_code == 0
    first = read_engine(network.with_suffix(".rtx")).manifest
    done = invoke(*first.rebuild.split()[1:])
    assert done.exit_code == 0, done.output
    second = read_engine(network.with_suffix(".rtx")).manifest
    assert (second.profile, second.capabilities) == (first.profile, first.capabilities)


@pytest.mark.parametrize("arguments, said", [
    (["--rtx", "sm75"], r"on Turing .* multiplies matrices in float16 only, and net.onnx has 1 in float32, the first "),
    (["--rtx", "sm87"], "--rtx: expected sm75, sm80, .*got 'sm87'; for Jetson, Hopper"),
    (["--rtx", "sm86,"], "--rtx: expected sm75, sm80, .*got ''"),
    (["--rtx", "--timing-cache", "t"], "--timing-cache: TensorRT for RTX measures no timings"),
    (["--rtx", "--version-compatible"], "--version-compatible: an engine of TensorRT for RTX belongs to one version"),
    (["--rtx", "--hardware-compatible"], "--hardware-compatible: engines"),
    (["--rtx", "--plugins", "aot"], "no Python plugins"),
    (["--rtx", "-o", "net.engine"], "ends in .rtx, got net.engine"),
    (["--rtx", "--labels", "cat"], "--labels: is for --bundle"),
    (["--trt", "--layers", "f"], "--layers: is for --rtx"),
    (["--rtx", "--trt"], "one of them"),
])  # fmt: skip
def test_what_cannot_be_made_is_said_in_one_line(rtx, network, monkeypatch, arguments, said):
    import re

    monkeypatch.chdir(network.parent)
    done = invoke(network, *arguments)
    assert done.exit_code != 0 and re.search(said, done.output.splitlines()[-1]), done.output
    assert files_beside(network) == ["net.json", "net.onnx"]


def test_float32_for_turing_is_refused_before_the_export(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"never opened")
    done = invoke(tmp_path / "model.pt", "--rtx", "sm75,sm86")
    assert done.exit_code == 1 and "export a model.pt with --precision fp16" in done.output
    done = invoke(tmp_path / "model.pt", "--rtx", "--precision", "int8")
    assert done.exit_code == 1 and "no int8 activations" in done.output


def test_the_list_of_capabilities_is_the_librarys(rtx):
    assert {name.upper() for name in CAPABILITIES} == set(rtx.ComputeCapability.__members__) - {"NONE", "CURRENT"}
    assert read_capabilities(" SM86, sm86,sm120") == ("sm86", "sm120") and read_capabilities(PORTABLE) == ()


def test_a_graph_that_the_library_refuses_is_named(rtx, network):
    import onnx

    model = onnx.load(network)
    model.graph.node[0].op_type, model.graph.node[0].name = "Nonsense", "stem.conv"
    network.write_bytes(model.SerializeToString())
    document = json.loads(network.with_suffix(".json").read_text())
    document["files"] = {network.name: sha256(network)}
    network.with_suffix(".json").write_text(json.dumps(document))
    old = network.with_suffix(".rtx")
    old.write_bytes(b"an older engine")
    with pytest.raises(ZerosegError, match=r"TensorRT for RTX .* cannot read it: node 0 \(Nonsense 'stem.conv'\)"):
        build_rtx(network, old, BuildOptions())
    assert old.read_bytes() == b"an older engine" and files_beside(network) == ["net.json", "net.onnx", "net.rtx"]


def test_without_the_library_it_says_what_to_install(network, monkeypatch):
    monkeypatch.setattr(rtx_library, "MODULES", ("no_such_module",))
    done = invoke(network, "--rtx")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].endswith(
        "its package tensorrt-rtx-cu13-bindings is not installed; pip install 'zeroseg[rtx]' (Linux on x86-64)"
    )


def test_a_version_that_we_do_not_speak_is_refused(monkeypatch):
    import types

    module = types.ModuleType("old_rtx")
    module.__version__, module.__spec__ = "1.4.0.1", types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "old_rtx", module)
    monkeypatch.setattr(rtx_library, "MODULES", ("old_rtx",))
    with pytest.raises(UnavailableError, match=r"TensorRT for RTX 1.4.0.1 is installed; zeroseg supports 1.5 to 1.x"):
        rtx_library.load_rtx("this test")


def test_ctrl_c_ends_a_real_build(rtx, network, monkeypatch):
    """The signal comes while the library works; the next step that it finishes ends the build."""
    from zeroseg.artifact import read_artifact
    from zeroseg.export.trt.progress import Phases

    started = threading.Event()
    start = Phases.start
    monkeypatch.setattr(Phases, "start", lambda self, *arguments: (started.set(), start(self, *arguments))[-1])

    def interrupt():
        started.wait(60)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    artifact = read_artifact()  # some seconds of work
    thread.start()
    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx, artifact.path.read_bytes(), "tiny.onnx", artifact.sidecar, BuildOptions())
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before and time.perf_counter() - begun < 60
