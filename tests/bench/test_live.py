"""The live benchmark: what it says of the parts of a run, and that a short one ends in a report and a picture."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("av")
pytest.importorskip("fastapi")

import zeroseg.words  # noqa: E402
from tests.color_model import vectors  # noqa: E402
from zeroseg.bench import live  # noqa: E402
from zeroseg.bench.live import main, over_time, percentile, slope  # noqa: E402


def test_parts_of_a_run_by_hand():
    latencies = [(-0.5, 999.0), (0.0, 10.0), (1.0, 30.0), (1.9, 20.0), (4.0, 50.0), (6.0, 999.0)]  # two outside
    memory = [(1.0, 100.0), (2.5, 101.0), (5.5, 104.04)]
    assert over_time(latencies, memory, 6.0, 3) == [
        {"s": 2.0, "fps": 1.5, "p50_ms": 20.0, "p95_ms": 30.0, "mib": 100.0},
        {"s": 4.0, "fps": 0.0, "p50_ms": None, "p95_ms": None, "mib": 101.0},
        {"s": 6.0, "fps": 0.5, "p50_ms": 50.0, "p95_ms": 50.0, "mib": 104.0},
    ]
    assert over_time([], [(2.0, 7.0)], 1.0, 1)[0]["mib"] == 7.0
    assert [percentile(list(range(100)), percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 99]
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0) and slope([(0.0, 1.0)]) == 0.0


def test_a_short_run_ends_in_a_report_and_a_picture(color_model, tmp_path, monkeypatch):
    """On a network that knows three colours; without the streams, which take seconds to come back."""
    monkeypatch.setattr(live, "recovery", lambda segmenter, kind: 0.5)
    monkeypatch.setattr(
        zeroseg.words,
        "embed_labels",
        lambda names, text="auto": (vectors(*names), np.ones(len(names), bool), [[] for _ in names]),
    )
    done = CliRunner().invoke(
        main,
        [
            "--model",
            str(color_model),
            "--labels",
            "red,green",
            "--seconds",
            "2",
            "--sizes",
            "160x96",
            "--threads",
            "1",
            "--plot",
            str(tmp_path / "live.png"),
        ],
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.output.splitlines()[-1])
    assert [row["source"] for row in report["rows"]] == ["test 160x96", "video 160x96"]
    assert report["recovery_s"] == {"mjpeg": 0.5, "rtsp": 0.5}
    for row in report["rows"]:
        parts = row["over_time"]
        assert [part["s"] for part in parts] == pytest.approx([1.0, 2.0], abs=0.2)
        assert sum(part["fps"] for part in parts) / 2 == pytest.approx(row["fps"], rel=0.1) and row["fps"] > 5
        assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] and parts[-1]["mib"] > 50
    assert Image.open(tmp_path / "live.png").size == (990, 825)


def test_a_picture_that_cannot_be_written_is_refused_at_once(tmp_path):
    done = CliRunner().invoke(main, ["--plot", str(tmp_path / "no" / "live.png")])
    assert done.exit_code != 0 and "--plot: expected a name that ends in .png in a folder" in done.output
    assert "source" not in done.output
