"""The GPU session's own logic, on stages that need no GPU: what is run, left, run again, and what is said of it."""

import json
import sys

import pytest
from click.testing import CliRunner

from zeroseg.bench import gpu_session as session

MACHINE = session.Machine("a GPU", "90", "", frozenset({"nvcc"}))
BARE = session.Machine(None, "", "torch sees no GPU", frozenset())


def stage(name, code="print('3 passed')", minutes=1.0, needs=()):
    return session.Stage(name, minutes, needs, lambda machine, out: [sys.executable, "-c", code])


def results(reports):
    return {report["stage"]: report["result"] for report in reports}


def test_stages_pass_fail_and_are_not_run_again(tmp_path):
    counter = tmp_path / "count"
    counted = f"open({str(counter)!r}, 'a').write('x'); print('2 passed')"
    stages = [
        stage("good", counted),
        stage("bad", "print('1 failed'); raise SystemExit(3)"),
        stage("cannot", needs=("compute-sanitizer",)),
    ]
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):
        reports = session.run(stages, MACHINE, out, 600, again=False)
        assert results(reports) == {"good": "passed", "bad": "failed", "cannot": "not run"}
    assert counter.read_text() == "x"
    session.run(stages, MACHINE, out, 600, again=True)
    assert counter.read_text() == "xx"
    bad = json.loads((out / "bad.json").read_text())
    assert bad["exit_code"] == 3 and bad["summary"] == "1 failed"
    assert bad["gpu"] == "a GPU" and bad["capability"] == "90"
    assert json.loads((out / "cannot.json").read_text())["reason"] == "compute-sanitizer not installed"


def test_what_was_not_run_is_run_once_it_can(tmp_path):
    stages = [stage("tests")]
    assert results(session.run(stages, BARE, tmp_path, 600, again=False)) == {"tests": "not run"}
    assert results(session.run(stages, MACHINE, tmp_path, 600, again=False)) == {"tests": "passed"}


def test_a_stage_that_may_take_too_long_is_left(tmp_path, capsys):
    stages = [stage("long", minutes=5), stage("short", minutes=0.5)]
    assert results(session.run(stages, MACHINE, tmp_path, 60, again=False)) == {"short": "passed"}
    assert "long       postponed to the next call" in capsys.readouterr().out and not (tmp_path / "long.json").exists()


def test_a_stage_that_hangs_is_a_failure(tmp_path):
    hanging = stage("hanging", "import time; print('begun', flush=True); time.sleep(60)", minutes=0.05)
    [report] = session.run([hanging], MACHINE, tmp_path, 600, again=False)
    assert report["result"] == "failed" and "took longer than 0.05 minutes" in report["reason"]
    assert report["last_lines"] == ["begun"]


def test_figures_are_kept_and_large_files_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "PIECE_BYTES", 1000)
    code = f"open({str(tmp_path / 'big.bin')!r}, 'wb').write(bytes(range(250)) * 10); print('[{{\"speedup\": 2}}]')"
    [report] = session.run([stage("kernels", code)], MACHINE, tmp_path, 600, again=False)
    assert report["figures"] == [{"speedup": 2}]
    pieces = sorted(tmp_path.glob("big.bin.*"))
    assert [piece.name for piece in pieces] == ["big.bin.000", "big.bin.001", "big.bin.002"]
    assert b"".join(piece.read_bytes() for piece in pieces) == bytes(range(250)) * 10
    assert not (tmp_path / "big.bin").exists()


def test_every_stage_names_files_that_are_there(tmp_path):
    for one in session.STAGES:
        for word in " ".join(one.command(MACHINE, tmp_path)).split():
            if word.startswith(("bench/", "tests/", "models/")):
                assert (session.ROOT / word).exists(), f"{one.name}: {word}"


def test_without_a_gpu_nothing_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "this_machine", lambda: BARE)
    done = CliRunner().invoke(session.main, ["--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "passed" not in done.output
    assert done.output.count("not run") == len(session.STAGES) and "torch sees no GPU" in done.output


@pytest.mark.parametrize("arguments", [["--only", "kernles"], ["--only", ""]])
def test_unknown_stages_are_named(arguments):
    done = CliRunner().invoke(session.main, arguments + ["--list"])
    if arguments[1]:
        assert done.exit_code == 1 and "Error: --only: expected build, tests" in done.output
    else:
        assert done.exit_code == 0 and done.output.count("\n") == len(session.STAGES)
