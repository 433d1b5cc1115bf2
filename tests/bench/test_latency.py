"""The latency benchmark on a network of thirteen nodes: what it reports, and what it says when something is missing."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("onnx")

from zeroseg.bench import latency  # noqa: E402
from zeroseg.bench.latency import main, measure_memory, open_all, time_labels  # noqa: E402
from zeroseg.bench.machine import gpu, machine  # noqa: E402
from zeroseg.bench.stages import STAGES  # noqa: E402
from zeroseg.export.race import race  # noqa: E402


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def memory_is_measured_elsewhere(monkeypatch):
    """It takes a process, which takes longer than all of a test."""
    monkeypatch.setattr(latency, "measure_memory", lambda segmenters, *others: dict.fromkeys(segmenters, 50))


def test_reports_stages_and_label_counts(color_model):
    done = invoke(
        "--model",
        color_model,
        "--backend",
        "onnxruntime",
        "--size",
        "96x64",
        "--labels",
        "2,50",
        "--rounds",
        3,
        "--threads",
        1,
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.output.splitlines()[-1])
    [row] = report["frames"]
    assert row["size"] == "96x64" and row["backend"] == "onnxruntime" and row["speedup"] == 1
    assert all(row[stage] > 0 for stage in STAGES) and row["total_ms"] <= row["p90_ms"] * 1.001
    assert 0 < row["network_share"] < 1
    assert [r["labels"] for r in report["scores"]] == [2, 50]
    assert all(0 < r["ms"] <= r["p90_ms"] for r in report["scores"])
    assert [r["labels"] for r in report["labels"]] == [2, 50] and report["labels"][0]["ratio_to_first"] == 1
    assert (
        report["versions"]["onnxruntime"]
        and report["threads"] == 1
        and report["peak_memory_mib"] == {"onnxruntime": 50}
    )


def test_every_form_of_the_model_has_its_back_ends(color_model, tmp_path):
    """An engine beside the ONNX file is timed by tensorrt, or the reason is said why not."""
    engine = tmp_path / "colors.engine"
    engine.write_bytes(b"no engine")
    segmenters, missing = open_all({".onnx": color_model, ".pt": None, ".engine": engine}, (), 1)
    assert "onnxruntime" in segmenters and not set(segmenters) & {"torch", "torch-compile"}
    assert "is missing, and an engine cannot run" in missing["tensorrt"]
    assert "tensorrt" not in open_all({".onnx": color_model, ".pt": None, ".engine": None}, (), 1)[1]


def test_gpu_is_named_by_its_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu() == "no GPU"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n[ $2 = --format=csv,noheader ] && echo Orin && echo Thor\n")
    program.chmod(0o755)
    assert gpu() == "Orin, Thor"


def test_back_end_that_cannot_run_is_named(color_model):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("it can run here")
    done = invoke("--model", color_model, "--backend", "onnxruntime-cuda", "--rounds", 3)
    assert done.exit_code == 1 and done.output.splitlines()[-1].startswith("Error: no back end can run: ")


@pytest.mark.parametrize("arguments, said", [
    *((["--size", size], f"size: expected WIDTHxHEIGHT such as 640x480, got '{size.split(',')[-1]}'")
      for size in ("640", "0x5", "axb", "640x480,")),
    *((["--labels", counts], f"labels: expected numbers such as 2,20, got '{counts}'")
      for counts in ("abc", "2,", "0", "-1")),
    (["--plot", "{here}/none/p.png"], "--plot: expected a name that ends in .png in a folder that is there"),
    (["--plot", "{here}/p.txt"], "--plot: expected a name that ends in .png"),
])  # fmt: skip
def test_wrong_options_are_told_before_anything_is_opened(color_model, monkeypatch, tmp_path, arguments, said):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    monkeypatch.setattr(latency, "open_all", lambda *arguments: pytest.fail("a model was opened"))
    done = invoke(
        "--model",
        color_model,
        "--backend",
        "onnxruntime",
        "--rounds",
        3,
        *(argument.format(here=tmp_path) for argument in arguments),
    )
    assert done.exit_code == 1 and said in done.output and done.output.count("\n") == 1


def test_folder_without_masks_is_told_before_anything_is_timed(color_model, tmp_path):
    done = invoke("--model", color_model, "--backend", "onnxruntime", "--masks", tmp_path)
    assert done.exit_code == 1 and "all ms" not in done.output, done.output


def test_labels_are_compared_on_every_back_end(color_model):
    segmenters = {name: open_all({".onnx": color_model}, ("onnxruntime",), 1)[0]["onnxruntime"] for name in ("a", "b")}
    rows = time_labels(segmenters, latency.PHOTO, [3, 70], 3, lambda line: None)
    assert [(row["backend"], row["labels"]) for row in rows] == [("a", 3), ("a", 70), ("b", 3), ("b", 70)]
    assert [row["ratio_to_first"] == 1 for row in rows] == [True, False] * 2


def test_memory_is_what_a_back_end_alone_takes_while_it_runs(color_model, tmp_path):
    """Not what is held here, and more for a larger picture, which has to be in memory at once."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("the system does not tell")
    held = np.ones(50 * 2**20)  # 400 MiB
    files = {".onnx": color_model}
    segmenters = open_all(files, ("onnxruntime",), 1)[0]
    small, large = (
        measure_memory(segmenters, files, 1, 2, [latency.picture(latency.PHOTO, size, tmp_path)], lambda line: None)[
            "onnxruntime"
        ]
        for size in ((96, 64), (4000, 3000))
    )
    assert 20 < small < small + 3 * 4000 * 3000 / 2**20 < large < held.nbytes / 2**20


@pytest.mark.parametrize("told, cpu, instructions", [
    ("model name\t: EPYC\nflags\t\t: fpu avx2 avx512_vnni\n\nmodel name\t: EPYC\nflags\t\t: fpu avx2 avx512_vnni\n",
     "EPYC", ["avx2", "avx512_vnni"]),
    ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", None, ["asimd", "asimddp"]),
    (None, None, []),
])  # fmt: skip
def test_instructions_are_named(tmp_path, told, cpu, instructions):
    path = tmp_path / "cpuinfo"
    if told is not None:
        path.write_text(told)
    found = machine(str(path))
    assert found["instructions"] == instructions and (cpu is None or found["cpu"] == cpu)


def test_plot_shows_what_was_measured():
    pytest.importorskip("matplotlib")
    from zeroseg.bench.latency_plot import make_figure

    frames = [
        {"size": "64x48", "backend": name} | {stage: 10.0 * i + j for j, stage in enumerate(STAGES)}
        for i, name in enumerate("ab")
    ]
    labels = [
        {"backend": name, "labels": count, "ratio_to_first": ratio}
        for name in "ab"
        for count, ratio in ((2, 1.0), (1200, 1.0 + (name == "b")))
    ]
    bars, lines = make_figure({"frames": frames, "labels": labels}).axes
    assert [[bar.get_width() for bar in group] for group in bars.containers] == [[j, 10.0 + j] for j in range(5)]
    assert [bar.get_x() for bar in bars.containers[-1]] == [0 + 1 + 2 + 3, 10 + 11 + 12 + 13]
    assert [(line.get_label(), *line.get_xydata().tolist()) for line in lines.lines] == [
        ("a", [2, 1], [1200, 1]),
        ("b", [2, 1], [1200, 2]),
    ]
    assert len(make_figure({"frames": frames}).axes) == 1


def test_race_takes_turns_and_compares_round_by_round(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr("zeroseg.export.race.time.perf_counter", lambda: clock[0])

    def takes(name, seconds):
        def call():
            order.append(name)
            clock[0] += seconds

        return call

    laps = race({"one": takes("one", 0.030), "two": takes("two", 0.010)}, rounds=4, warm_up=1)
    assert order == ["one", "two"] * 5
    assert laps["one"].speedup == 1 and laps["two"].speedup == pytest.approx(3)
    assert laps["two"].median_ms == pytest.approx(10) and laps["one"].p90_ms == pytest.approx(30)


def test_kernels_are_left_out_where_asked_and_nowhere_else(color_model, monkeypatch):
    from zeroseg.kernels import _native
    from zeroseg.kernels._dispatch import last_impl
    from zeroseg.segment.segmenter import Segmenter

    if _native.why_not():
        pytest.skip(_native.why_not())
    monkeypatch.setenv("ZEROSEG_IMPL", "native")
    ran, segment = [], Segmenter.segment

    def watched(self, *arguments, **options):
        result = segment(self, *arguments, **options)
        ran.append((last_impl("preprocess"), last_impl("mask_decode")))
        return result

    monkeypatch.setattr(Segmenter, "segment", watched)
    done = invoke(
        "--model",
        color_model,
        "--backend",
        "onnxruntime",
        "--size",
        "96x64",
        "--labels",
        2,
        "--rounds",
        3,
        "--threads",
        1,
        "--without-kernels",
    )
    assert done.exit_code == 0, done.output
    assert ran == [("native", "native"), ("reference", "reference")] * 5  # 2 to warm up
    assert [row["backend"] for row in json.loads(done.output.splitlines()[-1])["frames"]] == [
        "onnxruntime",
        "onnxruntime, NumPy",
    ]
    assert os.environ["ZEROSEG_IMPL"] == "native"


def test_live_size_is_the_pipeline_s(color_model, monkeypatch):
    from zeroseg.segment.segmenter import Segmenter

    seen, segment = [], Segmenter.segment

    def watched(self, *arguments, **options):
        seen.append(self.sidecar.input.short_side)
        return segment(self, *arguments, **options)

    monkeypatch.setattr(Segmenter, "segment", watched)
    done = invoke(
        "--model",
        color_model,
        "--backend",
        "onnxruntime",
        "--size",
        "128x96,320x180",
        "--labels",
        2,
        "--rounds",
        3,
        "--threads",
        1,
        "--live-size",
    )
    assert done.exit_code == 0, done.output
    assert seen == [64, 57] * 5 + [64, 49] * 5  # 8/9 of 64; of 16:9 no more pixels than of 4:3
    rows = json.loads(done.output.splitlines()[-1])["frames"]
    assert [row["backend"] for row in rows] == ["onnxruntime", "onnxruntime, live"] * 2
