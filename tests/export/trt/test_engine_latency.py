"""The latency benchmark of an engine, which takes fewer photos, smaller ones and fewer labels than other back ends."""

from tests.export.trt.test_engine import build  # noqa: F401 - a fixture
from zeroseg.bench import latency
from zeroseg.bench.label_scores import label_pack
from zeroseg.segment.segmenter import Segmenter


def timed(engine, monkeypatch, work):
    """(what work(segmenters, say) gives, the lines it says)"""
    monkeypatch.setattr(latency, "SIDES", (64, 672))
    segmenter = Segmenter.load(engine)
    segmenter.set_labels(label_pack(segmenter.sidecar, 2))
    lines = []
    return work({"tensorrt": segmenter}, lines.append), lines


def test_only_batches_and_sides_that_it_takes_are_timed(build, monkeypatch):  # noqa: F811
    _, engine = build(max_batch=3)
    rows, lines = timed(engine, monkeypatch, lambda segmenters, say: latency.time_batches(segmenters, 3, say))
    [row] = rows
    assert row["side"] == 64 and row["best_batch"] in (1, 2) and row["best_ms_per_image"] > 0
    assert "(it takes no more than 3)" in lines[-2]
    assert lines[-1].split()[:4] == ["672", "tensorrt", "not", "run:"]
    assert "the engine takes (1, 3, 32, 32) to (3, 3, 128, 128), got (1, 3, 672, 672)" in lines[-1]


def test_peers_are_compared_where_it_runs(build, monkeypatch):  # noqa: F811
    _, engine = build()
    monkeypatch.setattr("zeroseg.bench.peers.make_peers", lambda side, threads: ({"peer": lambda: None}, {}))
    rows, lines = timed(
        engine, monkeypatch, lambda segmenters, say: latency.time_peers(segmenters["tensorrt"], 1, 3, say)
    )
    assert [(row["side"], row["network"]) for row in rows] == [(64, "zeroseg test, tensorrt"), (64, "peer")]
    assert "672 zeroseg test, tensorrt" in lines[-1] and "not run: " in lines[-1]
