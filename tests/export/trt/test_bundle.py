"""zeroseg-export --trt and --bundle as a user meets them, and the bundle's life on a device."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.export.trt.fake_machine import FakeMachine
from tests.export.trt.fake_tensorrt import VERSIONS
from zeroseg.export.trt import bundle
from zeroseg.words import LabelPack

run = pytest.importorskip("zeroseg.export.run")
pytest.importorskip("zeroseg.export.gate")


def invoke(*arguments):
    from zeroseg.export.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def pack(tmp_path, unit_rows):
    path = tmp_path / "words.npz"
    LabelPack(names=list("abc"), vectors=unit_rows(3), space="test/space", known=[True] * 3,
              nearest=[[]] * 3).save(path)
    return path


@pytest.fixture
def make(network, pack, tmp_path, monkeypatch):
    """make(target, *options) -> the finished bundle; without GPU kernels, whose compiling is tested elsewhere."""
    monkeypatch.setattr(bundle, "_kernels", lambda target, folder, report: "")

    def make(target="jetson-orin", *options):
        out = tmp_path / "out"
        done = invoke(network, "--bundle", target, "-o", out, "--labels", pack, *options)
        assert done.exit_code == 0, done.output
        assert "MB beyond the model's" in done.output
        return out

    return make


def on_device(folder, *options):
    from zeroseg.export.trt.device import main

    return CliRunner().invoke(main, [str(folder), *options])


@pytest.mark.parametrize("target", bundle.TARGETS)
def test_bundle_is_whole_and_small(make, network, target):
    out = make(target)
    assert (out / "net.onnx").read_bytes() == network.read_bytes()
    assert bundle.extra_mb(out, out / "net.onnx") <= 5
    present = {path.name for path in out.iterdir()}
    assert {"README.md", "build.sh", "infer.sh", "bundle.json", "net.json", "labels.npz", "check", "python"} <= present
    readme = (out / "README.md").read_text()
    assert [f"\n{number}. `" in readme for number in range(1, 7)] == [True] * 5 + [False]
    assert os.access(out / "build.sh", os.X_OK) and ("triton" in present) == (target == "datacenter")
    assert not [path for path in out.rglob("*") if path.suffix in (".so", ".pyc", ".onnx") and path.parent != out]


@pytest.mark.parametrize("version", VERSIONS)
def test_device_builds_checks_and_runs_it(make, install, version):
    """The answers recorded at bundling hold the engine; cases come from the bundle's photos."""
    from zeroseg.segmenter import Segmenter

    out = make("datacenter", "--max-labels", 30)
    trt = install(FakeMachine("H200", (9, 0)), version)
    done = on_device(out)
    assert done.exit_code == 0, done.output
    assert "same label on 100.000 % of pixels" in done.output and "H200, TensorRT" in done.output
    assert trt.record.profiles[0]["label_embeddings"][2] == [30, 16]
    assert (out / "timing.cache").is_file()
    assert (out / "triton/zeroseg/1/model.plan").read_bytes() == (out / "net.engine").read_bytes()
    photo = next((out / "check").glob("*.jpg"))
    result = Segmenter.load(out / "net.engine").set_labels(out / "labels.npz").segment(photo)
    assert result.labels == ["a", "b", "c"] and result.label_map.shape == result.image.shape[:2]
    again = on_device(out, "--check")
    assert again.exit_code == 0 and "same label on 100.000 %" in again.output


def test_device_refuses_an_engine_that_differs(make, install):
    out = make()
    with np.load(out / "check/expected.npz") as answers:
        changed = {name: value[:, ::-1] if name.endswith("maps") else value for name, value in answers.items()}
    np.savez_compressed(out / "check/expected.npz", **changed)
    description = json.loads((out / "bundle.json").read_text())
    del description["files"]["check/expected.npz"]
    (out / "bundle.json").write_text(json.dumps(description))
    install()
    done = on_device(out)
    assert done.exit_code == 1 and "it is not kept" in done.output.splitlines()[-1]
    assert not (out / "net.engine").exists()


def test_damaged_bundle_is_named(make, install):
    out = make()
    install()
    (out / "net.onnx").write_bytes(b"cut off")
    done = on_device(out)
    assert done.exit_code == 1 and "net.onnx: not the bundle's (sha256 differs)" in done.output
    (out / "net.onnx").unlink()
    assert "net.onnx: missing; copy the whole bundle again" in on_device(out).output
    (out / "bundle.json").write_text("[]")
    assert "not the description of a bundle" in on_device(out).output


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_script_runs_on_the_bundles_own_code(make, tmp_path):
    """In a process of its own, with none of the heavy packages: as far as a machine without TensorRT gets."""
    out = make()
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in ("torch", "onnx", "onnxruntime", "tensorrt"))
    (out / "python" / "sitecustomize.py").write_text("import sys\n" + blocked)
    done = subprocess.run(["sh", str(out / "build.sh")], capture_output=True, text=True, cwd=tmp_path, timeout=120,
                          env={**os.environ, "PYTHON": sys.executable})
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Error: building an engine needs TensorRT") and done.stderr.count("\n") == 1


def test_triton_reads_the_model_repository(make):
    service = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")
    from google.protobuf import text_format

    config = text_format.Parse((make("datacenter") / "triton/zeroseg/config.pbtxt").read_text(), service.ModelConfig())
    assert (config.name, config.platform, config.max_batch_size) == ("zeroseg", "tensorrt_plan", 0)
    assert {entry.name: list(entry.dims) for entry in config.input} == {
        "image": [-1, 3, -1, -1], "label_embeddings": [-1, 16]}
    assert {entry.name: list(entry.dims) for entry in config.output} == {
        "segment_maps": [-1, 8, -1, -1], "segment_scores": [-1, 8, -1], "image_scores": [-1, -1]}
    assert {entry.data_type for entry in (*config.input, *config.output)} == {service.TYPE_FP32}


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_export_builds_an_engine_here(network, install, version):
    install(version=version)
    done = invoke(network, "--trt", "--max-labels", 25, "--version-compatible")
    assert done.exit_code == 0, done.output
    assert f"fp32, Orin, TensorRT {version}" in done.output.splitlines()[-1]
    manifest = json.loads((network.parent / "net.engine.json").read_text())["engine"]
    assert manifest["rebuild"] == "zeroseg-export --trt net.onnx -o net.engine --max-labels 25 --version-compatible"


@pytest.mark.parametrize("version, library, machine, said", [
    (None, "cuda-13.5.0", FakeMachine(), "building an engine needs TensorRT: its Python package is not installed"),
    ("11.4.0.106", None, FakeMachine(), "no library for GPU memory is installed"),
    ("11.4.0.106", "cuda-13.5.0", FakeMachine(gpus=0), "no NVIDIA GPU"),
])  # fmt: skip
def test_missing_parts_are_one_line(network, install, version, library, machine, said):
    install(machine, version, library)
    done = invoke(network, "--trt")
    assert done.exit_code == 1 and done.output.count("\n") == 1
    assert said in done.output and "--bundle TARGET makes a folder that builds the engine on the device" in done.output
    assert not network.with_suffix(".engine").exists()


@pytest.mark.parametrize("arguments, said", [
    (["--trt", "-o", "x.plan"], "expected a name that ends in .engine"),
    (["--trt", "-o", "nowhere/x.engine"], "nowhere: no such folder"),
    (["--trt", "--precision", "auto"], "says nothing about TensorRT"),
    (["--bundle", "jetson-orin", "--label-map"], "engines give segment maps and scores"),
    (["--bundle", "jetson-orin", "--timing-cache", "t"], "is the device's own in a bundle"),
    (["--bundle", "jetson-orin", "--labels", "cat", "-o", "{here}/b"], "test/space"),
    (["--bundle", "jetson-orin", "-o", "{here}"], "is there already"),
])  # fmt: skip
def test_wrong_options_are_one_line(network, arguments, said):
    done = invoke(network, *[argument.format(here=network.parent) for argument in arguments])
    assert done.exit_code == 1 and said in done.output and done.output.count("\n") == 1
    assert sorted(path.name for path in network.parent.iterdir()) == ["net.json", "net.onnx"]


def test_dry_run_says_what_would_be_done(network):
    assert "would build" in invoke(network, "--trt", "-n").output
    assert "what jetson-thor needs into" in invoke(network, "--bundle", "jetson-thor", "-n").output
    assert sorted(path.name for path in network.parent.iterdir()) == ["net.json", "net.onnx"]
