"""The steps of an export: what the terminal and the log see."""

import io
import re
import time

import pytest

from zeroseg.export import steps as steps_module
from zeroseg.export.steps import Steps


def terminal(monkeypatch):
    """A terminal as stderr; called by the test, for pytest sets stderr after the fixtures."""
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def test_counted_step_shows_the_time_left(monkeypatch):
    screen = terminal(monkeypatch)
    lines = []
    with Steps(lines.append).step("comparing", 4, "input") as done:
        for _ in range(3):
            time.sleep(0.15)
            done()
    shown = screen.getvalue()
    assert re.search(r"comparing:  75%\|.*\| 3/4 \[\d\d:\d\d<\d\d:\d\d, [^]]+\]", shown), shown
    assert shown.rsplit("\r", 1)[1].strip() == ""  # nothing stays
    assert re.fullmatch(r"comparing: \d+\.\d s", lines[0]) and len(lines) == 1


def test_step_without_a_count_shows_its_time_as_it_passes(monkeypatch):
    screen = terminal(monkeypatch)
    monkeypatch.setattr(steps_module, "TICK_S", 0.25)
    lines = []
    steps = Steps(lines.append)
    with steps.step("tracing"):
        time.sleep(1.4)
        steps("a line")
    assert "tracing: 00:00" in screen.getvalue() and "tracing: 00:01" in screen.getvalue()
    assert lines[0] == "a line" and re.fullmatch(r"tracing: \d+\.\d s", lines[1])


def test_log_gets_a_step_once_and_no_time_after_an_error():
    lines = []
    steps = Steps.of(lines.append)
    assert Steps.of(steps) is steps
    with pytest.raises(KeyError), steps.step("making"):
        raise KeyError
    assert lines == []
    with steps.step("making"):
        pass
    assert re.fullmatch(r"making: \d+\.\d s", lines[0]) and len(lines) == 1


def test_nothing_is_shown_where_nothing_reports(monkeypatch):
    screen = terminal(monkeypatch)
    steps = Steps.of(None)
    with steps.step("comparing", 2) as done:
        done()
    steps("a line")
    assert not steps.shown and not screen.getvalue()
