"""The GStreamer element zerosegoverlay, run by GStreamer itself: by gst-launch-1.0, and with words set while it runs.

Its Python is the system's, which finds zeroseg, NumPy and ONNX Runtime by PYTHONPATH.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.color_model import SPACE, vectors, write_color_model
from zeroseg.drawing import blend
from zeroseg.gst import PLUGIN_PATH
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack

ROOT = Path(__file__).resolve().parents[2]
PYTHON, LAUNCH = "/usr/bin/python3", shutil.which("gst-launch-1.0")
WIDTH, HEIGHT, STRIDE = 322, 96, 968  # a row is padded to a multiple of four bytes
TEST = f"videotestsrc num-buffers=4 pattern=smpte ! video/x-raw,format=RGB,width={WIDTH},height={HEIGHT} !"
CHANGE = """
import sys
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
pipeline = Gst.parse_launch(sys.argv[1])
overlay, frames, words = pipeline.get_by_name("overlay"), [0], {2: sys.argv[2], 3: " , "}
def before(pad, info):
    frames[0] += 1
    if frames[0] in words:
        overlay.set_property("labels", words[frames[0]])
    return Gst.PadProbeReturn.OK
overlay.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, before)
pipeline.set_state(Gst.State.PLAYING)
ends = Gst.MessageType.EOS | Gst.MessageType.ERROR
while True:
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, ends | Gst.MessageType.WARNING)
    if message and message.type == Gst.MessageType.WARNING:
        print("warning:", message.parse_warning()[0].message)
        continue
    print("end:", message and message.type.first_value_nick)
    break
pipeline.set_state(Gst.State.NULL)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    packages = [path for path in sys.path if path.endswith("site-packages")]
    variables = {
        **os.environ,
        "PATH": f"/usr/bin:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *packages]),
        "GST_PLUGIN_PATH": str(PLUGIN_PATH),
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("registry")),
        "OMP_NUM_THREADS": "1",
    }
    if LAUNCH is None:
        pytest.skip("no gst-launch-1.0 (apt install gstreamer1.0-tools gstreamer1.0-plugins-base)")
    if run([PYTHON, "-c", "import gi, numpy, onnxruntime"], variables).returncode:
        pytest.skip("the system's Python has no gi (apt install python3-gi), or cannot load this environment's NumPy")
    if run(["gst-inspect-1.0", "zerosegoverlay"], variables).returncode:
        pytest.skip("no Python plugins (apt install gstreamer1.0-python3-plugin-loader python3-gst-1.0)")
    return variables


def run(command, environment):
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def colors(tmp_path):
    """(the colour model, {name: pack's file}); the packs hold one colour each."""
    model = write_color_model(tmp_path)
    return model, {
        name: LabelPack([name], vectors(name), SPACE).save(tmp_path / f"{name}.npz") for name in ("red", "green")
    }


def frames(path):
    """(n, H, W, 3) uint8 of a file of raw RGB frames."""
    return np.fromfile(path, np.uint8).reshape(-1, HEIGHT, STRIDE)[:, :, : 3 * WIDTH].reshape(-1, HEIGHT, WIDTH, 3)


@pytest.fixture
def plain(environment, tmp_path):
    """The frames of the test pattern, without the element."""
    done = run([LAUNCH, "-q", *TEST.split(), "filesink", f"location={tmp_path / 'plain.rgb'}"], environment)
    assert done.returncode == 0, done.stderr
    return frames(tmp_path / "plain.rgb")


def expected(image, model, pack, alpha):
    result = Segmenter.load(model).set_labels(LabelPack.load(pack)).segment(image)
    assert 0 < (result.label_map >= 0).mean() < 0.5
    return blend(image, result.label_map, result.colors, alpha)


def test_gst_launch_gives_zerosegs_overlay(environment, plain, colors, tmp_path):
    model, packs = colors
    element = ["zerosegoverlay", f"model={model}", f"labels={packs['red']}", "alpha=0.7"]
    command = [LAUNCH, "-q", *TEST.split(), *element, "!", "filesink", f"location={tmp_path / 'out.rgb'}"]
    done = run(command, environment)
    assert done.returncode == 0, done.stderr
    found = frames(tmp_path / "out.rgb")
    assert found.shape == plain.shape == (4, HEIGHT, WIDTH, 3)
    for image, picture in zip(plain, found, strict=True):
        np.testing.assert_array_equal(picture, expected(image, model, packs["red"], 0.7))


def test_words_change_while_it_runs(environment, plain, colors, tmp_path):
    """From the second frame on it looks for green; words that are none are refused, and green stays."""
    model, packs = colors
    element = f"zerosegoverlay name=overlay model={model} labels={packs['red']} alpha=1"
    pipeline = f"{TEST} {element} ! filesink location={tmp_path / 'out.rgb'}"
    done = run([PYTHON, "-c", CHANGE, pipeline, packs["green"]], environment)
    assert done.stdout.splitlines() == ["warning: labels: expected at least one word, got none", "end: eos"], done
    for i, picture in enumerate(frames(tmp_path / "out.rgb")):
        words = packs["red" if i == 0 else "green"]
        np.testing.assert_array_equal(picture, expected(plain[i], model, words, 1.0))


def test_wrong_model_ends_the_pipeline_with_a_line(environment, tmp_path):
    command = [LAUNCH, *TEST.split(), "zerosegoverlay", f"model={tmp_path / 'none.onnx'}", "!", "fakesink"]
    done = run(command, environment)
    assert done.returncode != 0 and "none.onnx: no such model file" in done.stderr and "Traceback" not in done.stderr
