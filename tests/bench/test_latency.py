"""The latency benchmark on a network of thirteen nodes: what it reports, and what it says when something is missing."""

import json
import os

import pytest
from click.testing import CliRunner

pytest.importorskip("onnx")

from zeroseg.bench.latency import gpu, main, open_all  # noqa: E402
from zeroseg.bench.stages import STAGES  # noqa: E402
from zeroseg.export.race import race  # noqa: E402


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_reports_stages_and_label_counts(color_model):
    done = invoke("--model", color_model, "--backend", "onnxruntime", "--size", "96x64", "--labels", "2,50",
                  "--rounds", 3, "--threads", 1)
    assert done.exit_code == 0, done.output
    report = json.loads(done.output.splitlines()[-1])
    [row] = report["frames"]
    assert row["size"] == "96x64" and row["backend"] == "onnxruntime" and row["speedup"] == 1
    assert all(row[stage] > 0 for stage in STAGES) and row["total_ms"] <= row["p90_ms"] * 1.001
    assert 0 < row["network_share"] < 1
    assert [r["labels"] for r in report["labels"]] == [2, 50] and report["labels"][0]["ratio_to_first"] == 1
    assert report["versions"]["onnxruntime"] and report["threads"] == 1


def test_every_form_of_the_model_has_its_back_ends(color_model, tmp_path):
    """An engine beside the ONNX file is timed by tensorrt, or the reason is said why not."""
    engine = tmp_path / "colors.engine"
    engine.write_bytes(b"no engine")
    segmenters, missing, _ = open_all({".onnx": color_model, ".pt": None, ".engine": engine}, (), 1)
    assert "onnxruntime" in segmenters and not set(segmenters) & {"torch", "torch-compile"}
    assert "its manifest, is missing" in missing["tensorrt"]
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


@pytest.mark.parametrize("size", ["640", "0x5", "axb"])
def test_wrong_size(color_model, size):
    done = invoke("--model", color_model, "--backend", "onnxruntime", "--size", size, "--rounds", 3)
    assert done.exit_code == 1 and f"size: expected WIDTHxHEIGHT such as 640x480, got '{size}'" in done.output


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
    from zeroseg.segmenter import Segmenter

    if _native.why_not():
        pytest.skip(_native.why_not())
    monkeypatch.setenv("ZEROSEG_IMPL", "native")
    ran, segment = [], Segmenter.segment

    def watched(self, *arguments):
        result = segment(self, *arguments)
        ran.append((last_impl("preprocess"), last_impl("mask_decode")))
        return result

    monkeypatch.setattr(Segmenter, "segment", watched)
    done = invoke("--model", color_model, "--backend", "onnxruntime", "--size", "96x64", "--labels", 2, "--rounds", 3,
                  "--threads", 1, "--without-kernels")
    assert done.exit_code == 0, done.output
    assert ran == [("native", "native"), ("reference", "reference")] * 5  # 2 to warm up
    assert [row["backend"] for row in json.loads(done.output.splitlines()[-1])["frames"]] == [
        "onnxruntime", "onnxruntime, NumPy"]
    assert os.environ["ZEROSEG_IMPL"] == "native"


def test_live_size_is_the_pipeline_s(color_model, monkeypatch):
    from zeroseg.segmenter import Segmenter

    seen, segment = [], Segmenter.segment

    def watched(self, *arguments):
        seen.append(self.sidecar.input.short_side)
        return segment(self, *arguments)

    monkeypatch.setattr(Segmenter, "segment", watched)
    done = invoke("--model", color_model, "--backend", "onnxruntime", "--size", "128x96,320x180", "--labels", 2,
                  "--rounds", 3, "--threads", 1, "--live-size")
    assert done.exit_code == 0, done.output
    assert seen == [64, 57] * 5 + [64, 49] * 5  # 8/9 of 64; of 16:9 no more pixels than of 4:3
    rows = json.loads(done.output.splitlines()[-1])["frames"]
    assert [row["backend"] for row in rows] == ["onnxruntime", "onnxruntime, live"] * 2
