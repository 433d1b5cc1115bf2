"""Engines and their manifests: what is compared before TensorRT sees a byte, and what a person is told.

The fake TensorRT fails an assertion when a truncated, foreign or other machine's engine reaches it; `deserialized`
counts what did.
"""

import json

import pytest

from tests.export.trt.fake_machine import FakeMachine
from tests.export.trt.fake_tensorrt import VERSIONS
from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.export.trt.build import build_engine, check_engine
from zeroseg.export.trt.builder import BuildOptions
from zeroseg.files import sha256
from zeroseg.runtime.opening import open_runner
from zeroseg.runtime.trt_engine import manifest_path, read_engine
from zeroseg.segment.segmenter import Segmenter

REBUILD = "zeroseg-export --trt net.onnx -o net.engine"


@pytest.fixture
def build(install, network, cases):
    """build(version, ...) -> (the fake tensorrt, path of an engine that passed the gate)"""

    def build(version="10.3.0", library="cuda-12.9.8", machine=None, **options):
        trt = install(machine, version, library)
        artifact = read_artifact(network)
        lines = []
        file = build_engine(
            network,
            network.with_suffix(".engine"),
            BuildOptions(**options),
            open_runner(artifact, 1),
            cases,
            rebuild=REBUILD,
            report=lines.append,
        )
        assert "same label on 100.000 % of pixels" in lines[-1]
        trt.record.deserialized = 0
        return trt, file.path

    return build


def change(engine, **changes):
    document = json.loads(manifest_path(engine).read_text())
    document["engine"].update(changes)
    manifest_path(engine).write_text(json.dumps(document))


@pytest.mark.parametrize("version", VERSIONS)
def test_manifest_says_what_the_engine_is(build, network, version):
    _, engine = build(version)
    manifest = read_engine(engine).manifest
    assert (manifest.gpu, manifest.sm, manifest.tensorrt) == ("Orin", "8.7", version)
    assert manifest.onnx_sha256 == sha256(network) and manifest.onnx_file == "net.onnx"
    assert manifest.size_bytes == engine.stat().st_size and manifest.precision == "fp32"
    assert manifest.profile == {"image": [[1, 3, 32, 32], [1, 3, 64, 96], [1, 3, 128, 128]]}
    assert sorted(path.name for path in engine.parent.iterdir()) == [
        "net.engine",
        "net.engine.json",
        "net.json",
        "net.onnx",
    ]


def cut(engine, network):
    engine.write_bytes(engine.read_bytes()[:-7])


def replace(engine, network):
    engine.write_bytes(b"\0" * engine.stat().st_size)


def grow(engine, network):
    engine.write_bytes(engine.read_bytes() + b"more")


def other_network(engine, network):
    network.write_bytes(b"another network")


def other_space(engine, network):
    document = json.loads(network.with_suffix(".json").read_text())
    network.with_suffix(".json").write_text(json.dumps({**document, "embedding_space": "other/space"}))


def other_sizes(engine, network):
    document = json.loads(network.with_suffix(".json").read_text())
    document["input"]["short_side"] = 96
    network.with_suffix(".json").write_text(json.dumps(document))


@pytest.mark.parametrize("damage, said", [
    (cut, "truncated, it has"),
    (replace, "does not match its manifest (sha256 differs)"),
    (grow, "another file, it has"),
    (other_network, "built from another net.onnx than the one beside it"),
    (other_space, "embedding_space test/space, that of net.onnx is other/space"),
    (other_sizes, "input InputSpec(short_side=64"),
])  # fmt: skip
def test_damaged_engine_never_reaches_tensorrt(build, network, damage, said):
    trt, engine = build()
    damage(engine, network)
    with pytest.raises(ZerosegError) as caught:
        Segmenter.load(engine)
    message = str(caught.value)
    assert said in message and message.endswith(f"rebuild it here: {REBUILD}") and "\n" not in message
    assert trt.record.deserialized == 0


@pytest.mark.parametrize("version, machine, said", [
    ("10.16.1.11", FakeMachine(), ["built by TensorRT 10.3.0, here is 10.16.1.11"]),
    ("10.3.0", FakeMachine("Thor", (11, 0)), ["built for Orin (compute capability 8.7), here is Thor (11.0)"]),
    ("10.3.0", FakeMachine("Orin Nano", (8, 7)), ["built for Orin", "here is Orin Nano (8.7)"]),
    ("11.4.0.106", FakeMachine("Thor", (11, 0)), ["built by TensorRT 10.3.0", "; built for Orin"]),
])  # fmt: skip
def test_other_machine_is_told_every_difference(build, install, version, machine, said):
    _, engine = build()
    trt = install(machine, version)
    with pytest.raises(ZerosegError) as caught:
        Segmenter.load(engine, "tensorrt")
    assert all(part in str(caught.value) for part in said) and str(caught.value).endswith(REBUILD)
    assert trt.record.deserialized == 0


@pytest.mark.parametrize("options, version, machine, runs", [
    ({"version_compatible": True}, "10.16.1.11", ("Orin", (8, 7)), True),
    ({"version_compatible": True}, "11.4.0.106", ("Orin", (8, 7)), False),
    ({"version_compatible": True}, "10.3.0", ("Thor", (11, 0)), False),
    ({"hardware_compatible": True}, "10.3.0", ("RTX", (8, 9)), True),
    ({"hardware_compatible": True}, "10.3.0", ("T4", (7, 5)), False),
])  # fmt: skip
def test_compatible_engines_run_where_they_may(build, install, options, version, machine, runs):
    built, engine = build(**options)
    trt = install(FakeMachine(*machine), version)
    vars(trt.record).update(flags=built.record.flags, level=built.record.level)
    if runs:
        Segmenter.load(engine)
        assert trt.record.deserialized == 1
    else:
        with pytest.raises(ZerosegError, match="rebuild it here"):
            Segmenter.load(engine)
        assert trt.record.deserialized == 0


def test_later_engine_is_not_for_earlier_tensorrt(build, install):
    _, engine = build("10.16.1.11", version_compatible=True)
    install(version="10.3.0")
    with pytest.raises(ZerosegError, match="built by TensorRT 10.16.1.11, for it and later ones of its major version"):
        Segmenter.load(engine)


@pytest.mark.parametrize("changes, said", [
    ({"format": 2}, "format 2, this version of zeroseg reads 1"),
    ({"gpu": None}, "gpu: expected str, got null"),
    ({"size_bytes": True}, "size_bytes: expected int, got true"),
    ({"profile": {"image": [[1, 3], [1, 3, 32, 32], [1]]}}, "profile: image: expected three shapes"),
    ({"profile": {"image": 3}}, "profile: image: expected three shapes, got 3"),
    ({"profile": {"image": [[1], ["a"], [2]]}}, "profile: image: expected three shapes"),
    ({"tensorrt": "new"}, "TensorRT version 'new': expected something like 10.3.0"),
])  # fmt: skip
def test_wrong_manifests_are_explained(build, changes, said):
    trt, engine = build()
    change(engine, **changes)
    with pytest.raises(ZerosegError) as caught:
        Segmenter.load(engine)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert trt.record.deserialized == 0


def test_engine_without_a_manifest_is_refused(build):
    trt, engine = build()
    manifest_path(engine).unlink()
    with pytest.raises(ZerosegError, match="its manifest net.engine.json is missing"):
        Segmenter.load(engine)
    manifest_path(engine).write_text("no JSON")
    with pytest.raises(ZerosegError, match="cannot be read as JSON"):
        Segmenter.load(engine)
    assert trt.record.deserialized == 0


def test_engine_that_differs_is_not_kept(install, network, monkeypatch, cases):
    """The gate runs on the GPU's own outputs: here a fake one that mixes up two segments."""
    from tests.export.trt import fake_behaviour

    session = fake_behaviour._session

    class Wrong:
        def __init__(self, content):
            self.right = session(content)
            self.get_inputs, self.get_outputs = self.right.get_inputs, self.right.get_outputs

        def run(self, names, feed):
            return [result[:, ::-1] if result.ndim == 4 else result for result in self.right.run(names, feed)]

    install()
    monkeypatch.setattr(fake_behaviour, "_session", Wrong)
    artifact = read_artifact(network)
    old = network.with_suffix(".engine")
    old.write_bytes(b"an older engine")
    with pytest.raises(ZerosegError, match=r"net.engine: .* of the engine has a cosine of .*; it is not kept"):
        build_engine(network, old, BuildOptions(), open_runner(artifact, 1), cases, rebuild=REBUILD)
    assert old.read_bytes() == b"an older engine"
    assert sorted(path.name for path in old.parent.iterdir()) == ["net.engine", "net.json", "net.onnx"]


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_check_that_fails_replaces_nothing(install, network, monkeypatch, cases):
    """Neither engine nor manifest, which are finished by then."""
    from zeroseg.export.trt import build as module

    def fail(*arguments, **options):
        raise ZerosegError("the check says no")

    install()
    monkeypatch.setattr(module, "check_engine", fail)
    engine = network.with_suffix(".engine")
    for path in (engine, manifest_path(engine)):
        path.write_bytes(b"older")
    before = files_of(network.parent)
    reference = open_runner(read_artifact(network), 1)
    with pytest.raises(ZerosegError, match="the check says no"):
        build_engine(network, engine, BuildOptions(), reference, cases, rebuild=REBUILD)
    assert files_of(network.parent) == before
    install()
    monkeypatch.undo()
    install()
    build_engine(network, engine, BuildOptions(), reference, cases, rebuild=REBUILD)
    after = files_of(network.parent)
    assert sorted(after) == ["net.engine", "net.engine.json", "net.json", "net.onnx"]
    assert b"older" not in after.values()


def test_comparisons_that_the_engine_does_not_take_are_counted(build, network, cases):
    _, engine = build()  # one photo at once
    reference, lines = open_runner(read_artifact(network), 1), []
    pair = cases[0]._replace(image=cases[0].image.repeat(2, 0))
    check_engine(engine, reference, [*cases, pair], report=lines.append)
    assert lines[0].startswith("1 of 5 comparisons left out: the engine takes image from 1x3x32x32 to 1x3x128x128")
    with pytest.raises(ZerosegError, match="net.engine: cannot be compared: it takes none of 1 comparisons"):
        check_engine(engine, reference, [pair], report=lines.append)


def test_miou_of_the_engine_is_held_against_the_models(build, network, cases):
    _, engine = build()
    reference, lines = open_runner(read_artifact(network), 1), []
    check_engine(engine, reference, cases, report=lines.append, masks=lambda runner: 41.2 - (runner is reference) / 5)
    assert "mIoU 41.00 -> 41.20" in lines[-1]
    with pytest.raises(ZerosegError, match="net.engine: mIoU is 42.00 where the model has 41.00.*; it is not kept"):
        check_engine(engine, reference, cases, report=lines.append, masks=lambda runner: 42.0 - (runner is reference))
