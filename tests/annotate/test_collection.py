"""Listing photos, and the plan on disk: every photo once, in order, from its place in a folder or tar."""

import gzip
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from zeroseg.collection.listing import Photo, list_photos, tar_members
from zeroseg.collection.plan import Plan, open_plan
from zeroseg.errors import ZerosegError
from zeroseg.photos import listing
from zeroseg.photos.listing import printable


def names(*sources, **options) -> list[str]:
    return [photo.path for photo in list_photos(sources, **options)]


def test_every_photo_is_listed_once_and_reads_as_it_is(collection, monkeypatch):
    monkeypatch.chdir(collection)
    wanted = [
        "album/broken.jpg",
        *(f"album/x/{i:02}.png" for i in range(1, 14, 2)),
        *(f"album/y/{i:02}.png" for i in range(0, 14, 2)),
        *(f"more/pack.tar/{name}" for name in ("0.png", "1.png", "2.png", "3.png", "4.png", "0.png#2", "empty.png")),
    ]
    assert names("album", "more") == wanted
    with tarfile.open("more/pack.tar") as tar:
        data = [tar.extractfile(member).read() for member in tar if member.name.endswith(".png")]
    photos = list(list_photos(["album", "more"]))
    assert [photo.read() for photo in photos] == [Path(name).read_bytes() for name in wanted[:15]] + data
    assert names("album/x/01.png", "more/pack.tar")[:2] == ["album/x/01.png", "more/pack.tar/0.png"]


def test_sources_that_overlap_give_each_photo_once(collection, monkeypatch):
    monkeypatch.chdir(collection)
    assert sorted(names("album/x", "album")) == sorted(names("album"))
    assert names("album", "album/x", "album/x/01.png", str(collection / "album")) == names("album")
    assert names("album", leave=["album/x"]) == [n for n in names("album") if "/x/" not in n]
    os.symlink(collection / "album", collection / "album" / "x" / "again")
    assert not [name for name in names("album") if "again" in name]


def test_large_folders_come_in_sorted_runs(collection, monkeypatch):
    whole = names(collection / "album")
    monkeypatch.setattr(listing, "LISTED_AT_ONCE", 3)
    assert sorted(names(collection / "album")) == sorted(whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nothing", "no such file"),
        (lambda p: touch(p / "a.txt"), "expected a folder, a tar file or a picture"),
        (lambda p: touch(p / "a.tar.gz", gzip.compress(b"x" * 2000)), "compressed; unpack it"),
        (lambda p: touch(p / "b.tar", gzip.compress(b"x" * 2000)), "decompress it first"),
        (lambda p: touch(p / "c.tar", (p / "more/pack.tar").read_bytes()[:1200]), "truncated"),
        (lambda p: touch(p / "d.tar", damaged((p / "more/pack.tar").read_bytes())), "damaged or truncated after"),
    ],
)
def test_sources_that_are_wrong_are_one_line(collection, make, message):
    with pytest.raises(ZerosegError, match=message) as error:
        list(list_photos([make(collection)]))
    assert "\n" not in str(error.value)


def touch(path, data=b""):
    path.write_bytes(data)
    return path


def damaged(tar: bytes) -> bytes:
    """The second member's header is overwritten."""
    second = 512 + -(-int(tar[124:135], 8) // 512) * 512
    return tar[:second] + b"x" * 512 + tar[second + 512 :]


def test_plan_cuts_every_photo_into_one_part_and_is_kept(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(collection)
    folder = tmp_path / "album" / "out"  # inside a source: it is left out
    folder.mkdir()
    listed = list(list_photos(["album", "more"]))
    plan = open_plan(folder, ["album", "more"], part_size=5)
    assert (plan.photos, plan.parts, plan.size(4)) == (22, 5, 2)
    assert [photo for number in range(5) for photo in plan.part(number)] == listed
    (collection / "album" / "new.png").write_bytes(b"")
    os.remove(collection / "album/x/01.png")
    assert [photo for number in range(5) for photo in Plan(folder).part(number)] == listed
    assert open_plan(folder, [collection / "album", "more"], part_size=9).part_size == 5
    with pytest.raises(ZerosegError, match="was begun with"):
        open_plan(folder, ["more"])
    (folder / "plan.json").unlink()  # as after an interrupted listing
    assert open_plan(folder, ["more"]).photos == 7


def test_no_photo_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZerosegError, match="no photo in"):
        open_plan(tmp_path, [tmp_path / "empty"])
    (tmp_path / "empty" / "photos.tgz").write_bytes(b"")
    with pytest.raises(ZerosegError, match="no photo in .*/photos.tgz is compressed: unpack it"):
        open_plan(tmp_path, [tmp_path / "empty"])


def test_listing_a_tar_takes_no_memory_per_photo(tmp_path):
    """Twenty times the members must not take twice the memory: tarfile would keep them all."""
    peaks = []
    for count in (200, 4000):
        path = tmp_path / f"{count}.tar"
        with open(path, "wb") as file:
            for i in range(count):
                member = tarfile.TarInfo(f"{i}.jpg")
                file.write(member.tobuf())
            file.write(bytes(1024))
        tracemalloc.start()
        assert sum(1 for _ in tar_members(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_names_that_are_no_utf8_stay_readable(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "in").mkdir()
    try:
        (tmp_path / "in" / name).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    [photo] = open_plan(tmp_path, [tmp_path / "in"]).part(0)
    assert photo.read() == b"x" and printable(photo.path).endswith("caf\\xe9.png")
    assert isinstance(photo, Photo)


def linked_tar(path: Path, *entries) -> Path:
    """A tar of (name, bytes) files and (name, type, target) links."""
    with tarfile.open(path, "w") as tar:
        for name, *rest in entries:
            member = tarfile.TarInfo(name)
            if len(rest) == 1:
                member.size = len(rest[0])
                tar.addfile(member, io.BytesIO(rest[0]))
            else:
                member.type, member.linkname = rest
                tar.addfile(member)
    return path


def test_links_in_a_tar_are_followed(tmp_path):
    tar = linked_tar(
        tmp_path / "x.tar",
        ("d/early.png", tarfile.SYMTYPE, "../a.png"),
        ("./a.png", b"first"),
        ("d/hard.png", tarfile.LNKTYPE, "a.png"),
        ("d/e/chain.png", tarfile.SYMTYPE, "../hard.png"),
        ("folder", tarfile.SYMTYPE, "nowhere"),
        ("b.png", b"second"),
    )
    assert {photo.path.removeprefix(f"{tar}/"): photo.read() for photo in list_photos([tar])} == {
        "a.png": b"first",
        "b.png": b"second",
        "d/early.png": b"first",
        "d/hard.png": b"first",
        "d/e/chain.png": b"first",
    }


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [("a.png", tarfile.SYMTYPE, "/etc/a.png")],
            "a.png is a link to /etc/a.png, which is not in the tar; make the tar again",
        ),
        ([("a.png", tarfile.SYMTYPE, "b.png"), ("b.png", tarfile.SYMTYPE, "a.png")], "a.png is a link to b.png"),
    ],
)
def test_a_link_that_leads_nowhere_is_one_line(tmp_path, entries, message):
    with pytest.raises(ZerosegError, match=message):
        list(list_photos([linked_tar(tmp_path / "x.tar", *entries)]))


def test_joined_tars_are_read_to_their_end(tmp_path):
    parts = [linked_tar(tmp_path / f"{i}.tar", (f"{i}.png", bytes([i]) * 700), ("same.png", b"x")) for i in range(3)]
    joined = tmp_path / "joined.tar"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    photos = {photo.path.removeprefix(f"{joined}/"): photo.read() for photo in list_photos([joined])}
    assert photos == {"0.png": b"\0" * 700, "1.png": b"\1" * 700, "2.png": b"\2" * 700} | {
        name: b"x" for name in ("same.png", "same.png#2", "same.png#3")
    }
    joined.write_bytes(joined.read_bytes() + b"x" * 512)
    with pytest.raises(ZerosegError, match="damaged or truncated after"):
        list(list_photos([joined]))
