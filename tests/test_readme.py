"""The README runs: its Python, its zeroseg-infer line, every command it names; its links lead somewhere."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zeroseg import load_segments
from zeroseg.artifact import BUNDLED
from zeroseg.cli import main
from zeroseg.commands.infer import infer

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
needs_model = pytest.mark.skipif(not (BUNDLED / "tiny.onnx").is_file(), reason="this checkout has no bundled model")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "docs" / "photos", "docs/photos")


@needs_model
def test_python_runs(tmp_path):
    """Its blocks one after the other, as a reader would type them."""
    code = "\n".join(blocks("python"))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("person", "grass", "tree", "sky")) and "dog" not in done.stdout
    assert (tmp_path / "overlay.png").is_file()
    assert load_segments(tmp_path / "football.npz").masks(["person"]).found[0].label == "person"
    assert (tmp_path / "football.npz").stat().st_size < 40 * 1024


@needs_model
def test_infer_line_runs():
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("zeroseg-infer")]
    assert lines
    for line in lines:
        command, photo, option, labels = shlex.split(line)
        assert option == "--labels"
        done = CliRunner().invoke(infer, [photo, option, labels])
        assert done.exit_code == 0, done.output
        stem = Path("zeroseg-out", Path(photo).stem)
        document = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        largest = document["found"][0]
        assert largest["category"] in labels.split(",")
        assert largest["area"] > 0.05 * document["size"][0] * document["size"][1]
        with Image.open(f"{stem}_overlay.png") as overlay, Image.open(f"{stem}_labels.png") as label_picture:
            assert overlay.width == label_picture.width and overlay.height > label_picture.height  # by the legend
            assert (np.asarray(label_picture) == largest["category_id"]).sum() == largest["area"]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`zeroseg (\w+)(?: --help)?`", README))))
def test_commands_it_names_exist(command):
    done = CliRunner().invoke(main, [command, "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_links_lead_somewhere(link):
    if link.endswith("_overlay.png") and not (BUNDLED / "tiny.onnx").is_file():
        pytest.skip("this checkout has no bundled model to make the picture with")
    assert (ROOT / link).exists()


def test_first_screen_is_short():
    assert README.index("## Accuracy and speed") < 1800
