"""A generated collection: photos of two colours in folders and in a tar, two bad files, and a label pack."""

import io
import tarfile

import pytest
from PIL import Image

from tests.color_model import NAMES, vectors

COLORS = {"red": (250, 30, 30), "green": (30, 250, 30), "blue": (30, 30, 250), "dark": (5, 5, 5)}
PHOTOS = 22
BAD = {"album/broken.jpg", "more/pack.tar/empty.png"}


def halves(number: int, size=(64, 64)) -> Image.Image:
    """Left half in one colour, right half in the next."""
    image = Image.new("RGB", size, COLORS[NAMES[number % 4]])
    image.paste(COLORS[NAMES[(number + 1) % 4]], (size[0] // 2, 0, *size))
    return image


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def collection(tmp_path):
    """A folder with 14 photos, a folder with a tar of 6 (two of them under one name), two files that are no photos."""
    for i in range(14):
        path = tmp_path / "album" / ("x" if i % 2 else "y") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        halves(i, (64 + 32 * (i % 3), 64)).save(path)
    (tmp_path / "album" / "broken.jpg").write_bytes(b"\xff\xd8 not a photo")
    (tmp_path / "album" / "notes.txt").write_text("no photo")
    (tmp_path / "album" / ".hidden.png").write_bytes(b"")
    (tmp_path / "more").mkdir()
    with tarfile.open(tmp_path / "more" / "pack.tar", "w") as tar:
        for i in range(5):
            add(tar, f"{i}.png", png(halves(i)))
            add(tar, f"{i}.json", b"{}")
        add(tar, "0.png", png(halves(3)))
        add(tar, "empty.png", b"")
    return tmp_path


@pytest.fixture(scope="session")
def color_labels(tmp_path_factory):
    """A label pack that the colour model finds exactly."""
    from zeroseg.words import LabelPack

    return LabelPack(NAMES, vectors(*NAMES)).save(tmp_path_factory.mktemp("labels") / "labels.npz")
