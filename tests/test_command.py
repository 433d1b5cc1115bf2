"""What all commands share: errors in one line, no error for a closed pipe, one thread of OpenBLAS."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zeroseg.commands.command import Command

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file or directory", "x.json"), "x.json: No such file or directory"),
        (OSError("cannot identify it"), "cannot identify it"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_an_error_of_the_system_is_one_line_about_its_file(error, message):
    def fail():
        raise error

    done = CliRunner().invoke(Command("x", callback=fail))
    assert done.exit_code == 1 and done.output == f"Error: {message}\n"


def test_a_reader_that_stops_reading_is_no_error():
    code = (
        "from zeroseg.commands.command import Command\n"
        "def run(): raise BrokenPipeError(32, 'Broken pipe')\n"
        "Command('x', callback=run).main([])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr == ""


EXITS = """
def exits(command):
    try:
        command()
    except SystemExit:
        pass
"""


@pytest.mark.skipif(
    not Path("/proc/self/task").exists() or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores"
)
@pytest.mark.parametrize(
    "first, threads",
    [
        ("from zeroseg.cli import main; main(['words', '--help'], standalone_mode=False)", 1),
        ("import sys; sys.argv = ['x', '-h']; from zeroseg.cli import infer; exits(infer)", 1),
        ("import zeroseg.cli", None),  # importing does no work
        ("", None),
    ],
)
def test_commands_leave_the_cores_to_the_network(first, threads):
    """OpenBLAS's own threads would spin beside the network after each product of words and names."""
    code = f"{EXITS}{first}\nimport numpy, os; print('threads:', len(os.listdir('/proc/self/task')))"
    asked_for = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in asked_for}
    count = int(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout.rpartition("threads:")[2]
    )
    assert count == threads if threads else count > 1
