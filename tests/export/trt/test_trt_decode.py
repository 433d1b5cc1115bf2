"""Masks decoded on the engine's stream: kernels compiled for the device, loaded and launched through the fakes.

The cubins and their manifest are real, compiled here; the fake machine takes launches only of symbols in them and does
their work in NumPy, on the addresses and numbers that arrive as parameters.
"""

import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.export.trt.conftest import GPU_LIBRARIES
from tests.export.trt.fake_tensorrt import VERSIONS
from tests.export.trt.test_engine import build  # noqa: F401 - a fixture
from zeroseg.artifact import read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.kernels.mask_decode import mask_decode, reference
from zeroseg.runtime.base import open_runner
from zeroseg.runtime.trt_decode import NAMES, decode_blocks
from zeroseg.segmenter import Segmenter

pytest.importorskip("torch")
pytest.importorskip("triton")
LETTERS = {"i32": "i", "i64": "l", "fp32": "f"}  # of NumPy; pointers are L
SIZE = (90, 130)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The folder kernels/, for sm_87; compiled in a process of its own, as this one may interpret kernels."""
    folder = tmp_path_factory.mktemp("compiled") / "kernels"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "zeroseg.kernels.aot",
            "--target",
            "sm_87",
            "--only",
            ",".join(NAMES),
            "-o",
            str(folder),
        ],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return folder


def segment_labels(machine, blocks, *, scores, chosen, threshold, N):
    scores = machine.bytes_at(int(scores), blocks * int(N) * 4, device=True).view(np.float32).reshape(blocks, N)
    machine.bytes_at(int(chosen), blocks * 4, device=True).view(np.int32)[:] = np.where(
        scores.max(1) >= threshold, scores.argmax(1), -1
    )


def decode_masks(machine, blocks, *, maps, table, labels, confidence, threshold, K, h, w, H, W, **rest):
    from zeroseg.kernels.mask_decode.triton_impl import LAUNCH, row_blocks

    assert (rest["map_stride_b"], rest["map_stride_k"], rest["map_stride_h"], rest["map_stride_w"]) == (
        K * h * w,
        h * w,
        w,
        1,
    )
    each = max(h - 1, 1) * row_blocks(int(h), int(H), LAUNCH.BLOCK_H) * -(-int(W) // LAUNCH.BLOCK_W)
    B, left = divmod(blocks, int(each))
    assert left == 0 and threshold == -np.inf
    maps = machine.bytes_at(int(maps), B * K * h * w * 4, device=True).view(np.float32).reshape(B, K, h, w)
    table = machine.bytes_at(int(table), B * K * 4, device=True).view(np.int32).reshape(B, K)
    labels = machine.bytes_at(int(labels), B * H * W * 2, device=True).view(np.int16).reshape(B, H, W)
    confidence = machine.bytes_at(int(confidence), B * H * W * 4, device=True).view(np.float32).reshape(B, H, W)
    for b in range(B):
        labels[b], confidence[b] = reference.mask_decode(maps[b], table[b], (int(H), int(W)))


WORK = {"segment_labels": segment_labels, "mask_decode_int16": decode_masks}


@pytest.fixture
def decoding(build, compiled):  # noqa: F811
    """decoding(version, library, ...) -> (fake tensorrt, engine with kernels beside it)"""

    def decoding(version="10.3.0", library="cuda-12.9.8", **options):
        trt, engine = build(version, library, **options)
        folder = engine.parent / "kernels"
        if not folder.exists():
            folder.symlink_to(compiled)
        teach(trt.machine, compiled)
        return trt, engine

    return decoding


def teach(machine, compiled):
    """Give the fake machine the work of the compiled kernels, with the parameters that their manifest has."""
    for entry in json.loads((compiled / "sm_87/manifest.json").read_text())["kernels"]:
        names = [argument["name"] for argument in entry["arguments"]]
        letters = "".join(LETTERS.get(argument["type"], "L") for argument in entry["arguments"])

        def work(machine, blocks, *values, names=names, do=WORK[entry["name"]]):
            assert not any(values[len(names) :])  # Triton's own pointers are null
            do(machine, blocks, **dict(zip(names, values, strict=False)))

        machine.kernels[entry["symbol"]] = types.SimpleNamespace(
            work=work,
            letters=letters + "L" * entry["null_pointers_after"],
            threads=entry["block_threads"],
            shared=entry["shared_bytes"],
        )


def feed_of(shape, labels, seed=0):
    image = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return {"image": image, "label_embeddings": labels}


def expected_of(output, size, threshold):
    scores = output["segment_scores"]
    tables = np.where(scores.max(2) >= threshold, scores.argmax(2), -1)
    maps, confidences = zip(
        *(
            mask_decode(maps, table, size, "reference")
            for maps, table in zip(output["segment_maps"], tables, strict=True)
        ),
        strict=True,
    )
    return tables, np.stack(maps), np.stack(confidences)


@pytest.mark.parametrize("library", GPU_LIBRARIES)
@pytest.mark.parametrize("version", VERSIONS)
def test_masks_are_those_of_the_cpu(decoding, network, unit_rows, version, library):
    """Sizes, thresholds and plain runs between them; work that repeats is replayed, decoding included."""
    trt, engine = decoding(version, library, max_batch=2)
    cpu, runner = open_runner(read_artifact(network), 1), open_runner(read_artifact(engine), 1)
    assert runner.can_decode and not cpu.can_decode
    runs = [((1, 3, 64, 96), 3, SIZE, 0.0), ((1, 3, 64, 96), 3, SIZE, 0.0), ((1, 3, 64, 96), 3, SIZE, 0.0),
            ((1, 3, 64, 96), 3, SIZE, 0.2), ((2, 3, 128, 32), 7, (240, 60), -1.0), ((1, 3, 32, 32), 2, (7, 5), 0.0),
            ((1, 3, 64, 96), 3, None, 0.0), ((1, 3, 64, 96), 3, SIZE, 0.0)]  # fmt: skip
    for seed, (shape, count, size, threshold) in enumerate(runs):
        feed = feed_of(shape, unit_rows(count, seed), seed)
        plain = cpu.run(feed)
        if size is None:
            np.testing.assert_array_equal(runner.run(feed)["segment_maps"], plain["segment_maps"])
            continue
        got = runner.decode(feed, size, threshold)
        table, label_map, confidence = expected_of(plain, size, threshold)
        np.testing.assert_array_equal(got["segment_labels"], table)
        np.testing.assert_array_equal(got["label_map"], label_map)
        np.testing.assert_array_equal(got["confidence"], confidence)
        np.testing.assert_array_equal(got["segment_scores"], plain["segment_scores"])
        assert (got["label_map"].dtype, got["confidence"].dtype) == (np.int16, np.float32)
    assert runner.replays == (2 if library.startswith("cuda") else 0)  # PyCUDA cannot capture
    runner.close()
    assert not trt.machine.modules or library.startswith("pycuda")


def test_maps_do_not_cross_to_the_host(decoding, unit_rows, monkeypatch):
    trt, engine = decoding()
    runner = open_runner(read_artifact(engine), 1)
    copied = []
    copy = trt.machine.copy
    monkeypatch.setattr(
        trt.machine,
        "copy",
        lambda stream, target, source, nbytes, to_device: (
            copied.append(nbytes) if not to_device else None,
            copy(stream, target, source, nbytes, to_device),
        ),
    )
    runner.decode(feed_of((1, 3, 64, 96), unit_rows(3)), SIZE, 0.0)
    pixels = SIZE[0] * SIZE[1]
    assert sorted(copied) == sorted([2 * pixels, 4 * pixels, 4 * 8, 4 * 8 * 3, 4 * 3])  # no (1, 8, 4, 6) maps


def test_larger_photos_take_new_buffers_and_give_the_old_back(decoding, unit_rows):
    trt, engine = decoding()
    runner = open_runner(read_artifact(engine), 1)
    feed = feed_of((1, 3, 64, 96), unit_rows(3))
    runner.decode(feed, (20, 30), 0.0)
    before = len(trt.machine.device_blocks)
    runner.decode(feed, (300, 200), 0.0)
    runner.decode(feed, (20, 30), 0.0)
    assert len(trt.machine.device_blocks) == before


def test_segmenter_gives_the_cpus_masks(decoding, network, unit_rows):
    from zeroseg.export.parity import draw_scene
    from zeroseg.words import LabelPack

    _, engine = decoding()
    photo = draw_scene(np.random.default_rng(3), (90, 120))
    pack = LabelPack(names=list("abc"), vectors=unit_rows(3), space="test/space", known=[True] * 3, nearest=[[]] * 3)
    segmenter = Segmenter.load(engine).set_labels(pack)
    got, expected = segmenter.segment(photo), Segmenter.load(network).set_labels(pack).segment(photo, edges=False)
    assert segmenter.runner.can_decode
    for name in ("label_map", "segment_labels"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
        assert getattr(got, name).dtype == getattr(expected, name).dtype
    np.testing.assert_allclose(got.confidence, expected.confidence, atol=1e-6)


def test_device_holds_the_kernels_against_the_cpu(decoding, cases, monkeypatch):
    from zeroseg.export.trt.kernels import check_decoding

    trt, engine = decoding()
    lines = []
    assert check_decoding(engine, cases, lines.append) > 0.999 and "the CPU's label on" in lines[0]
    right = trt.machine.kernels["segment_labels_kernel"].work

    def wrong(machine, blocks, scores, chosen, *others):
        right(machine, blocks, scores, chosen, *others)
        machine.bytes_at(int(chosen), 4 * blocks, device=True).view(np.int32)[:] ^= 1

    trt.machine.kernels["segment_labels_kernel"].work = wrong
    with pytest.raises(ZerosegError, match="the kernels in kernels/ give the CPU's label to only .* delete kernels/"):
        check_decoding(engine, cases, lines.append)

    def wrong_below_the_threshold(machine, blocks, scores, chosen, threshold, *others):
        """Names every segment: right without a threshold only."""
        right(machine, blocks, scores, chosen, threshold if threshold == -np.inf else -9.0, *others)

    trt.machine.kernels["segment_labels_kernel"].work = wrong_below_the_threshold
    with pytest.raises(ZerosegError, match="the CPU's label to only"):
        check_decoding(engine, cases, lines.append)


def test_without_kernels_masks_are_the_cpus(build, unit_rows):  # noqa: F811
    from zeroseg.export.trt.kernels import check_decoding

    _, engine = build()
    runner = open_runner(read_artifact(engine), 1)
    assert not runner.can_decode and check_decoding(engine, [], print) is None
    with pytest.raises(UnavailableError, match="no kernels for this GPU beside the engine"):
        runner.decode(feed_of((1, 3, 32, 32), unit_rows(2)), SIZE, 0.0)


def damaged_manifest(folder, text):
    (folder / "manifest.json").write_text(text)


@pytest.mark.parametrize("library", GPU_LIBRARIES)
@pytest.mark.parametrize("damage, said", [
    (lambda f: (f / "mask_decode_int16.cubin").unlink(), "the cubin of mask_decode_int16 cannot be read"),
    (lambda f: (f / "mask_decode_int16.cubin").write_bytes(b"\x7fELF"), "not the kernel that manifest.json lists"),
    (lambda f: damaged_manifest(f, "{"), "manifest.json: not a list of compiled kernels"),
    (lambda f: damaged_manifest(f, "[" * 200_000), "manifest.json: not a list of compiled kernels"),
    (lambda f: damaged_manifest(f, '{"format": 1, "target": "sm_90", "kernels": []}'), "format 1, for sm_90"),
    (lambda f: damaged_manifest(f, '{"format": 1, "target": "sm_87", "kernels": []}'), "has no kernel segment_labels"),
    (lambda f: damaged_manifest(f, '{"format": 1, "target": "sm_87", "kernels": [{"name": "x"}]}'), "KeyError"),
])  # fmt: skip
def test_damaged_kernels_are_one_line(build, compiled, library, damage, said):  # noqa: F811
    _, engine = build(library=library)
    folder = engine.parent / "kernels" / "sm_87"
    folder.mkdir(parents=True)
    for path in (compiled / "sm_87").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damage(folder)
    with pytest.raises(ZerosegError) as caught:
        open_runner(read_artifact(engine), 1)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("library", GPU_LIBRARIES)
def test_cubin_that_the_driver_refuses_is_one_line(build, install, library):  # noqa: F811
    from zeroseg.runtime.trt_memory import open_memory

    install(library=library)
    memory = open_memory()
    with pytest.raises(ZerosegError, match="CUDA: .*device kernel image is invalid"):
        memory.load_kernel(b"not a cubin", "f")
    with pytest.raises(ZerosegError, match="CUDA: .*named symbol not found"):
        memory.load_kernel(b"\x7fELF.text.f\0", "g")


def test_wrong_sizes_are_refused(decoding, unit_rows):
    _, engine = decoding()
    runner = open_runner(read_artifact(engine), 1)
    with pytest.raises(ValueError, match="expected .H, W. of at least 1 x 1"):
        runner.decode(feed_of((1, 3, 32, 32), unit_rows(2)), (0, 5), 0.0)
    assert decode_blocks((2, 8, 1, 1), (5, 5), 16, 128) == 2
