"""A small album, its collection made by the colour model, and the words that the model finds."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.color_model import NAMES, vectors
from zeroseg.cli import main

COLORS = {"red": (250, 30, 30), "green": (30, 250, 30), "blue": (30, 30, 250), "dark": (5, 5, 5)}


def picture(left: str, right: str, size=(96, 64)) -> Image.Image:
    """Two colours side by side."""
    image = Image.new("RGB", size, COLORS[left])
    image.paste(COLORS[right], (size[0] // 2, 0, *size))
    return image


def command(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def table_rows(folder, names=("path", "segment", "vector", "area", "map", "position_s")) -> list[tuple]:
    """The table of segments as LanceDB itself reads it, sorted."""
    import lancedb

    table = lancedb.connect(str(folder)).open_table("segments").to_arrow().to_pylist()
    rows = [tuple(np.float16(row[n]).tobytes() if n == "vector" else row[n] for n in names) for row in table]
    return sorted(rows, key=lambda row: tuple(map(repr, row)))


@pytest.fixture
def album(tmp_path, monkeypatch):
    """album/ in the working folder: every pair of neighbouring colours, some with a time, and a bad file."""
    pytest.importorskip("lancedb", reason="lancedb is not installed (extra search)")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album" / "more").mkdir(parents=True)
    for i, left in enumerate(NAMES):
        image = picture(left, NAMES[(i + 1) % 4])
        exif = image.getexif()
        exif[0x0132] = f"2024:05:{10 + i} 12:00:00"
        image.save(tmp_path / "album" / ("more" if i % 2 else "") / f"{i}_{left}.png", exif=exif)
    picture("blue", "blue").save(tmp_path / "album" / "blue only.png")
    (tmp_path / "album" / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    return tmp_path / "album"


@pytest.fixture(scope="session")
def color_words_file(tmp_path_factory):
    """A pack that the colour model finds exactly."""
    from zeroseg.words import LabelPack

    return LabelPack(NAMES, vectors(*NAMES)).save(tmp_path_factory.mktemp("words") / "labels.npz")


@pytest.fixture
def indexed(album, color_model):
    """The path of the album's collection."""
    done = command("index", "album", "-o", "collection", "--model", color_model, "--processes", 1)
    assert done.exit_code == 0, done.output
    return album.parent / "collection"
