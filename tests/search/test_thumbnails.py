"""The small copies of photos beside a collection."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from tests.search.conftest import command
from zeroseg import Collection
from zeroseg.search.hit import Place
from zeroseg.search.thumbnails import FILE, SIDE_PX, Thumbnail, Thumbnails, make_thumbnail


@pytest.fixture
def hit(indexed):
    """An image of the collection."""
    return Collection.open(indexed).hit(0)


@pytest.fixture
def reads(monkeypatch):
    """The paths of the photos that are read."""
    found, image = [], Place.image
    monkeypatch.setattr(Place, "image", lambda self, *args, **named: found.append(self.path) or image(self, **named))
    return found


def is_like_the_photo(segments, hit) -> bool:
    """Whether the small copy of a photo that is smaller than a thumbnail has its pixels, but for JPEG's losses."""
    return np.abs(segments.image.astype(int) - np.asarray(hit.photo(), int)).mean() < 12


def test_a_photo_is_read_only_if_it_has_changed(indexed, hit, reads):
    thumbnails, file = Thumbnails(indexed), hit.place.real_file
    assert is_like_the_photo(hit.small(200, thumbnails), hit)
    assert reads == [hit.path]  # by is_like_the_photo alone
    reads.clear()
    Image.new("RGB", hit.size[::-1], "white").save(file)
    os.utime(file, ns=(1, 1))
    for _ in range(2):  # the second time, the copy that the first has made
        assert hit.small(200, Thumbnails(indexed)).image.min() > 250
    assert reads == [hit.path]
    os.unlink(file)
    with pytest.raises(Exception, match="no such file|cannot be read"):
        hit.small(200, thumbnails)


@pytest.mark.parametrize("damage", ["garbage", "no folder", "bad picture"])
def test_a_fault_counts_as_a_missing_thumbnail(indexed, hit, reads, damage):
    folder = indexed if damage != "no folder" else indexed / "missing"
    if damage == "garbage":
        (indexed / FILE).write_bytes(b"no database" * 999)
    elif damage == "bad picture":
        about = os.stat(hit.place.real_file)
        Thumbnails(folder).put([Thumbnail(hit.sha256, None, about.st_size, about.st_mtime_ns, b"\xff\xd8 no photo")])
    assert is_like_the_photo(hit.small(200, Thumbnails(folder)), hit)
    assert len(reads) == 2  # once by is_like_the_photo


def test_two_writers_and_vanished_photos(indexed, album, color_model):
    one, other = Thumbnails(indexed), Thumbnails(indexed)
    file = album / "blue only.png"
    about = os.stat(file)
    for position_s, writer in enumerate((one, other)):
        writer.put([Thumbnail(b"old", position_s, about.st_size, about.st_mtime_ns, b"%d" % position_s)])
    assert [one.get(b"old", at, file, False) for at in (0, 1, None)] == [b"0", b"1", None]
    digests = {hit.path: hit.sha256 for hit in map(Collection.open(indexed).hit, range(5))}
    gone = album / "0_red.png"
    gone.rename(album.parent / "elsewhere.png")  # as it was, but outside the folder
    result = command("index", album, "-o", indexed, "--model", color_model)
    assert result.exit_code == 0, result.output
    assert [one.get(b"old", at, file, False) for at in (0, 1)] == [None, None]
    assert one.get(digests["album/0_red.png"], None, str(album.parent / "elsewhere.png"), False) is None
    assert one.get(digests["album/blue only.png"], None, file, False) is not None


def test_sizes():
    for size, wanted in (((300, 600), (120, SIDE_PX)), ((5000, 2), (SIDE_PX, 1)), ((40, 30), (40, 30))):
        made = Image.open(io.BytesIO(make_thumbnail(np.zeros((*size, 3), np.uint8))))
        assert made.size[::-1] == wanted
