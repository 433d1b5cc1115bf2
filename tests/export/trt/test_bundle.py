"""zeroseg-export --trt and --bundle as a user meets them, and the bundle's life on a device."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.export.trt.fake_machine import FakeMachine
from tests.export.trt.fake_tensorrt import VERSIONS
from zeroseg.errors import ZerosegError
from zeroseg.export.trt import bundle
from zeroseg.export.trt.device import describe
from zeroseg.words import LabelPack

onnx = pytest.importorskip("onnx")
run = pytest.importorskip("zeroseg.export.run")
pytest.importorskip("zeroseg.export.gate")


def invoke(*arguments):
    from zeroseg.export.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def pack(tmp_path, unit_rows):
    path = tmp_path / "words.npz"
    LabelPack(names=list("abc"), vectors=unit_rows(3), space="test/space").save(path)
    return path


@pytest.fixture
def make(network, pack, tmp_path, monkeypatch):
    """make(target, *options) -> the finished bundle; without GPU kernels, whose compiling is tested elsewhere."""

    def make(target="jetson-orin", *options):
        out = tmp_path / "out"
        done = invoke(network, "--bundle", target, "-o", out, "--labels", pack, *options)
        assert done.exit_code == 0, done.output
        assert "MB in addition to the model's" in done.output
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
    assert not [
        path
        for path in out.rglob("*")
        if path.suffix in (".so", ".pyc", ".onnx") and path.parent != out and not path.is_symlink()
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_device_builds_checks_and_runs_it(make, install, version):
    """The answers recorded at bundling hold the engine; cases come from the bundle's photos."""
    from zeroseg.segment.segmenter import Segmenter

    out = make("datacenter")
    trt = install(FakeMachine("H200", (9, 0)), version)
    done = on_device(out)
    assert done.exit_code == 0, done.output
    assert "same label on 100.000 % of pixels" in done.output and "H200, TensorRT" in done.output
    assert set(trt.record.profiles[0]) == {"image"}
    assert trt.record.profiles[0]["image"][2][0] == 8
    assert (out / "timing.cache").is_file()
    assert (out / "triton/tensorrt/zeroseg_network/1/model.plan").read_bytes() == (out / "net.engine").read_bytes()
    photo = next((out / "check").glob("*.jpg"))
    result = Segmenter.load(out / "net.engine").set_labels(out / "labels.npz").segment(photo)
    assert result.labels == ["a", "b", "c"] and result.label_map.shape == result.image.shape[:2]
    again = on_device(out, "--check")
    assert again.exit_code == 0 and "same label on 100.000 %" in again.output


def test_checking_before_building_says_what_to_run(make, install):
    out = make()
    install()
    done = on_device(out, "--check")
    assert (done.exit_code, done.output) == (1, f"Error: {out}/net.engine: does not exist yet; ./build.sh makes it\n")


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
    assert done.exit_code == 1 and "net.onnx: differs from the bundle's (sha256)" in done.output
    (out / "net.onnx").unlink()
    assert "net.onnx: missing; copy the whole bundle again" in on_device(out).output
    (out / "bundle.json").write_text("[]")
    assert "is not a bundle's description" in on_device(out).output


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
@pytest.mark.parametrize("chosen", ["by PYTHON", "by the venv"])
def test_script_runs_on_the_bundles_own_code(make, tmp_path, chosen):
    """In a process of its own, with none of the heavy packages: as far as a machine without TensorRT gets.

    It is started from a folder with another zeroseg, a relative PYTHON is that folder's, and PYTHONPATH stays.
    """
    out, users = make(), tmp_path / "users"
    for folder in (users, tmp_path / "zeroseg", out / "venv/bin"):
        folder.mkdir(parents=True)
    (tmp_path / "zeroseg/__init__.py").write_text("raise SystemExit('not the bundle's')")
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in ("torch", "onnx", "onnxruntime", "tensorrt"))
    (users / "sitecustomize.py").write_text("import sys\n" + blocked)
    environment = {**os.environ, "PYTHONPATH": str(users)}
    if chosen == "by PYTHON":
        environment["PYTHON"] = os.path.relpath(sys.executable, tmp_path)
    else:
        (out / "venv/bin/python").write_text(f'#!/bin/sh\necho "the venv\'s"\nexec {sys.executable} "$@"\n')
        (out / "venv/bin/python").chmod(0o755)
        environment.pop("PYTHON", None)
    done = subprocess.run(
        ["sh", str(out / "build.sh")], capture_output=True, text=True, cwd=tmp_path, timeout=120, env=environment
    )
    assert done.returncode == 1 and done.stdout == ("" if chosen == "by PYTHON" else "the venv's\n")
    assert done.stderr.startswith("Error: building an engine needs TensorRT") and done.stderr.count("\n") == 1
    done = subprocess.run(
        ["sh", str(out / "infer.sh"), "photo.jpg"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 2 and "Usage: zeroseg-infer" in done.stderr


def test_repositories_share_the_bundles_network(make):
    """One file, linked: the bundle stays small, and a link that is copied as a file is still the one that is listed."""
    out = make("datacenter")
    link = out / "triton/onnx/zeroseg_network/1/model.onnx"
    assert link.is_symlink() and link.resolve() == (out / "net.onnx").resolve()
    copy = out.parent / "copied"
    shutil.copytree(out, copy)  # follows links, as scp does
    assert describe(copy)["onnx"] == "net.onnx" and not (copy / link.relative_to(out)).is_symlink()
    (copy / link.relative_to(out)).write_bytes(b"cut off")
    with pytest.raises(ZerosegError, match="differs from the bundle's"):
        describe(copy)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
@pytest.mark.parametrize(
    "words, line",
    [
        ([], "expected onnx or tensorrt, got none"),
        (["plan"], "expected onnx or tensorrt, got plan"),
        (["tensorrt"], "model.plan is not there yet; ./build.sh makes it"),
        (["onnx"], "tritonserver is not on this machine"),
    ],
)
def test_serving_says_what_is_missing(make, tmp_path, words, line):
    for tool in ("sh", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    done = subprocess.run(
        ["sh", make("datacenter") / "serve.sh", *words], capture_output=True, text=True, env={"PATH": str(tmp_path)}
    )
    assert done.returncode != 0 and line in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_export_builds_an_engine_here(network, install, version):
    install(version=version)
    done = invoke(network, "--trt", "--max-batch", 2, "--version-compatible")
    assert done.exit_code == 0, done.output
    assert f"fp32, Orin, TensorRT {version}" in done.output.splitlines()[-1]
    manifest = json.loads((network.parent / "net.engine.json").read_text())["engine"]
    assert manifest["rebuild"] == "zeroseg-export --trt net.onnx -o net.engine --max-batch 2 --version-compatible"


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
    (["--trt", "--timing-cache", "no/timings"], "--timing-cache: no: no such folder"),
    (["--trt", "--timing-cache", "{here}/net.onnx"], "net.onnx is not a timing cache"),
    (["--trt", "--plugins", "aot", "--hardware-compatible"], "compiled for this GPU"),
    (["--bundle", "jetson-orin", "--masks"], "engines give segment maps and embeddings"),
    (["--bundle", "jetson-orin", "--timing-cache", "t"], "a bundle is built on the device"),
    (["--bundle", "jetson-orin", "--labels", "cat", "-o", "{here}/b"], "test/space"),
    (["--bundle", "jetson-orin", "-o", "{here}"], "exists already"),
])  # fmt: skip
def test_wrong_options_are_one_line(network, arguments, said):
    done = invoke(network, *[argument.format(here=network.parent) for argument in arguments])
    assert done.exit_code == 1 and said in done.output and done.output.count("\n") == 1
    assert sorted(path.name for path in network.parent.iterdir()) == ["net.json", "net.onnx"]


@pytest.mark.parametrize("model", ["net.onnx", "net.pt"])
@pytest.mark.parametrize("arguments, option, models", [
    (["--trt", "--onnx"], "expected exactly one of --onnx, --trt", "onnx pt"),
    (["--trt", "--bundle", "jetson-orin"], "expected exactly one of --onnx, --trt", "onnx pt"),
    ([], "expected exactly one of --onnx, --trt", "onnx pt"),
    (["--onnx", "--plugins", "aot"], "--plugins: is for engines", "onnx pt"),
    (["--onnx", "--max-batch", 3], "--max-batch: is for engines", "onnx pt"),
    (["--trt", "--labels", "cat"], "--labels: is for --bundle", "onnx pt"),
    (["--trt", "--precision", "fp32"], "--precision: has no effect: net.onnx is used as it is", "onnx"),
    (["--trt", "--weights", "float16"], "--weights: has no effect", "onnx"),
    (["--trt", "--calibration", "{here}"], "--calibration: has no effect", "onnx"),
    (["--trt", "--symmetric"], "--symmetric: has no effect", "onnx"),
    (["--bundle", "jetson-orin", "--precision", "int8"], "--precision: has no effect", "onnx"),
    (["--bundle", "jetson-orin", "--gate-photos", "{here}", "--gate-masks", "voc"], "--gate-masks: has", "onnx"),
])  # fmt: skip
def test_options_that_would_do_nothing_are_refused(network, model, arguments, option, models):
    path = network.with_name(model)
    path.touch()
    done = invoke(path, *[str(argument).format(here=network.parent) for argument in arguments], "--dry-run")
    refused = path.suffix[1:] in models
    assert (done.exit_code == 2 and f"Error: {option}" in done.output) == refused
    assert refused or (done.exit_code == 0 and done.output.startswith("would ")), done.output


def test_auto_precision_is_refused(network):
    path = network.with_suffix(".pt")
    path.touch()
    done = invoke(path, "--trt", "--precision", "auto")
    assert (
        done.exit_code == 1
        and "measures ONNX Runtime on this machine, not TensorRT" in done.output
        and done.output.count("\n") == 1
    )


def test_photos_and_folders_of_photos_are_both_compared(make, network, install, tmp_path):
    photo = run.photos_of(None)[0][:64, :96]
    (tmp_path / "more").mkdir()
    for path in (tmp_path / "one.png", tmp_path / "more/two.png"):
        Image.fromarray(photo).save(path)
    options = ["--photo", tmp_path / "one.png", "--gate-photos", tmp_path / "more"]
    assert describe(make("jetson-orin", *options))["photos"] == ["photo-0.png", "photo-1.jpg"]
    install()
    assert "of 4 decoded photos" in invoke(network, "--trt", *options).output  # two photos, two label sets


def test_dry_run_says_what_would_be_done(network):
    assert "would build" in invoke(network, "--trt", "-n").output
    assert "what jetson-thor needs into" in invoke(network, "--bundle", "jetson-thor", "-n").output
    assert sorted(path.name for path in network.parent.iterdir()) == ["net.json", "net.onnx"]
