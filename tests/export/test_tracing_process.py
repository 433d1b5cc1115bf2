"""Tracing in a process of its own: the same file, and no process left behind."""

import subprocess
import sys

import pytest

pytest.importorskip("onnxscript")

from zeroseg.export import to_onnx, tracing_process  # noqa: E402
from zeroseg.export.source import open_source  # noqa: E402
from zeroseg.model import save_checkpoint  # noqa: E402


@pytest.fixture
def started(monkeypatch):
    """The processes that are started, on two cores."""
    processes, start = [], subprocess.Popen
    monkeypatch.setattr(tracing_process, "available_threads", lambda: 2)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: processes.append(start(*a, **k)) or processes[-1])
    return processes


def program(tmp_path, line):
    """Stands in for Python."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def test_graph_is_the_one_that_is_traced_here(started, make_model, sidecar, tmp_path, monkeypatch):
    model, path = tmp_path / "model.pt", tmp_path / "traced.onnx"
    save_checkpoint(model, make_model("one-stage"), sidecar=sidecar)
    (tmp_path / "numpy.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    with tracing_process.traced(model, path) as graph_is_there:
        expected = to_onnx.traced_graph(open_source(model).network())
        assert graph_is_there() and path.read_bytes() == expected.SerializeToString()


def test_process_ends_with_the_block(started, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", program(tmp_path, "exec sleep 60"))
    with pytest.raises(KeyboardInterrupt), tracing_process.traced("model.pt", tmp_path / "traced.onnx"):
        assert started[0].poll() is None
        raise KeyboardInterrupt
    assert started[0].poll() == -9


@pytest.mark.parametrize(
    ("model", "cores", "line", "processes"),
    [
        ("model.pt", 2, "exit 1", 1),
        ("model.pt", 1, "exit 0", 0),
        (object(), 2, "exit 0", 0),
        ("model.pt", 2, None, 0),
        ("open_clip:ViT-B-32/openai", 2, "exit 0", 0),
    ],
)
def test_without_a_graph_it_is_traced_here(started, tmp_path, monkeypatch, model, cores, line, processes):
    """The process fails; one core; a source that is open already; no Python that starts; an open_clip model."""
    monkeypatch.setattr(tracing_process, "available_threads", lambda: cores)
    monkeypatch.setattr(sys, "executable", program(tmp_path, line) if line else str(tmp_path / "missing"))
    with tracing_process.traced(model, tmp_path / "traced.onnx") as graph_is_there:
        assert (graph_is_there is None) == (not started) and not (graph_is_there and graph_is_there())
    assert len(started) == processes
