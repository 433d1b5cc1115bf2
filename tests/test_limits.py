"""What the bundled model may take on a small machine: memory on a large photo, time from a cold start."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from zeroseg.artifact import BUNDLED

pytestmark = [
    pytest.mark.skipif(not (BUNDLED / "tiny.onnx").is_file(), reason="this checkout has no bundled model"),
    pytest.mark.skipif(sys.platform == "win32", reason="resource is a POSIX module"),
]
ROOT = Path(__file__).resolve().parent.parent
PEAK_LIMIT_MB = 1000
COLD_START_LIMIT_S = 2.0

RUN = """
import resource, sys
from zeroseg.cli import infer
try:
    infer()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if sys.platform == "linux":  # there ru_maxrss begins at the size of the process that started this one
        with open("/proc/self/status") as status:
            peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    print("PEAK", peak)
    print("CPU", used.ru_utime + used.ru_stime)
"""


def infer(photo, folder, *options):
    """Run zeroseg-infer in a process of its own: (peak memory in bytes, processor seconds)."""
    command = [sys.executable, "-c", RUN, str(photo), "--labels", "cat,dog,sofa,tabby", "--out", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"PEAK (\d+)", done.stdout)[1]), float(re.search(r"CPU (\S+)", done.stdout)[1])


def photo_of(folder, width, height):
    path = folder / "photo.jpg"
    Image.open(ROOT / "docs/photos/chelsea.jpg").resize((width, height)).save(path)
    return path


def test_12_megapixels_take_less_than_1_gb(tmp_path):
    peak_bytes, _ = infer(photo_of(tmp_path, 4000, 3000), tmp_path)
    assert peak_bytes < PEAK_LIMIT_MB * 1e6


def test_cold_start_takes_less_than_2_s(tmp_path):
    """Processor time on one thread, the best of three: a busy machine must not fail this."""
    photo = photo_of(tmp_path, 640, 480)
    assert min(infer(photo, tmp_path, "--threads", "1")[1] for _ in range(3)) < COLD_START_LIMIT_S
