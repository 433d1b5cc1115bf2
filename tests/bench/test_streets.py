"""bench/streets.py makes a folder that zeroseg eval reads, without the photos that were trained on."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zeroseg.evaluation.folders import plain_folder

SCRIPT = Path(__file__).parent.parent.parent / "bench" / "streets.py"


@pytest.fixture(scope="module")
def streets():
    spec = importlib.util.spec_from_file_location("bench_streets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_masks_get_the_ids_of_their_colours_and_trained_photos_are_left_out(streets, tmp_path):
    colours = np.zeros((4, 6, 3), np.uint8)  # black: various
    colours[0], colours[1, :3], colours[2] = (0, 128, 128), (0, 0, 128), (128, 128, 128)
    clone = tmp_path / "clone"
    for folder in ("images", "labels"):
        (clone / folder).mkdir(parents=True)
    for name in ("seen.a", "new"):
        Image.new("RGB", (6, 4)).save(clone / "images" / f"{name}.jpg")
        Image.fromarray(colours).save(clone / "labels" / f"{name}.png")
    (tmp_path / "trained.txt").write_text("seen.a\n")
    arguments = [str(clone), str(tmp_path / "trained.txt"), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(streets.main, arguments).exit_code == 0
    dataset = plain_folder(tmp_path / "out", None, None)
    assert [path.name for path in dataset.photos] == ["new.jpg"] and dataset.classes == streets.CLASSES
    sky, building, sidewalk = (streets.CLASSES.index(name) for name in ("sky", "building", "sidewalk"))
    expected = np.full((4, 6), 255, np.uint8)
    expected[0], expected[1, :3], expected[2] = sky, building, sidewalk
    np.testing.assert_array_equal(dataset.load(0)[1], expected)
    again = CliRunner().invoke(streets.main, arguments)
    assert again.exit_code == 1 and "exists" in again.output
