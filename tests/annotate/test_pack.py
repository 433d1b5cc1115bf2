"""zeroseg pack: every readable photo once with unchanged bytes; the same shards each time, complete or missing."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.annotate.conftest import BAD, PHOTOS
from zeroseg.cli import main
from zeroseg.collection import pack as packing
from zeroseg.collection.listing import Photo, list_photos
from zeroseg.collection.pack import member_name, pack
from zeroseg.collection.plan import open_plan
from zeroseg.errors import ZerosegError


def call(*args):
    return CliRunner().invoke(main, ["pack", *map(str, args)])


def members(folder) -> list[tuple[str, bytes]]:
    found = []
    for path in sorted(Path(folder).glob("photos-*.tar")):
        with tarfile.open(path) as tar:
            found += [(member.name, tar.extractfile(member).read()) for member in tar]
    return found


def digests(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).glob("photos-*")}


@pytest.fixture
def here(collection, monkeypatch):
    monkeypatch.chdir(collection)
    return collection


def test_shards_hold_the_photos_own_bytes_in_order(here):
    done = call("album", "more", "-o", "shards", "--per-shard", 5, "--threads", 3)
    assert done.exit_code == 0, done.output
    good = [photo for photo in list_photos(["album", "more"]) if photo.path not in BAD]
    assert len(good) == PHOTOS - len(BAD)
    assert [data for _, data in members("shards")] == [photo.read() for photo in good]
    index = json.loads(Path("shards/index.json").read_text())
    assert index["photos"] == len(good)
    for entry in index["shards"]:
        path = Path("shards", entry["name"])
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == entry["photos"] <= 5
        assert path.stat().st_size == entry["bytes"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    bad = dict(line.split("\t") for line in Path("shards/bad.txt").read_text().splitlines())
    assert set(bad) == BAD and all(bad.values()) and "2 bad photos were left out" in done.output


def test_webdataset_reads_one_sample_a_photo(here):
    webdataset = pytest.importorskip("webdataset")
    for name in ("a.b.png", "a.c.png", "a_b.png", "a.jpg"):
        (here / "album" / name).write_bytes((here / "album" / "x" / "01.png").read_bytes())
    assert call("album", "more", "-o", "shards", "--per-shard", 7).exit_code == 0
    paths = sorted(map(str, Path("shards").glob("*.tar")))
    samples = [
        (sample["__key__"], [name for name in sample if not name.startswith("_")])
        for sample in webdataset.WebDataset(paths, shardshuffle=False)
    ]
    assert len(samples) == PHOTOS - len(BAD) + 4 and all(len(fields) == 1 for _, fields in samples)


def test_names_keep_the_path_and_get_unique_keys():
    keys = set()
    names = [
        member_name(Photo(path, "/x"), keys)
        for path in (
            "../album/a.b.JPG",
            "/album/a_b.jpg",
            "album/a.png",
            "album/a.jpeg",
            "t.tar/0.png",
            "t.tar/0.png#2",
            "week#1/t.tar/a.jpg",
            "week#1/t.tar/a.jpg#2",
            "c#d.jpg",
            os.fsdecode(b"caf\xe9.jpg"),
            "e\\f.jpg",
        )
    ]
    assert names == [
        "album/a_b.jpg",
        "album/a_b_2.jpg",
        "album/a.png",
        "album/a_2.jpeg",
        "t.tar/0.png",
        "t.tar/0_2.png",
        "week#1/t.tar/a.jpg",
        "week#1/t.tar/a_2.jpg",
        "c#d.jpg",
        "caf_xe9.jpg",
        "e_f.jpg",
    ]


def test_a_resumed_job_gives_the_same_bytes(here):
    assert call("album", "more", "-o", "whole", "--per-shard", 4, "--threads", 1).exit_code == 0
    seen = []

    def stop(count):
        seen.append(count)
        if len(seen) == 11:  # in the third shard
            raise KeyboardInterrupt

    Path("halted").mkdir()
    packing.begin(Path("halted"), {"photos_per_shard": 4, "check": True})
    with pytest.raises(KeyboardInterrupt):
        pack(open_plan("halted", ["album", "more"], 4), on_photos=stop)
    assert len(list(Path("halted").glob("*.tar"))) == 2 and not Path("halted/index.json").exists()
    before = {path: path.stat().st_mtime_ns for path in Path("halted").glob("*.tar")}
    assert call("album", "more", "-o", "halted", "--per-shard", 4, "--threads", 2).exit_code == 0
    assert digests("halted") == digests("whole")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert not list(Path("halted").glob(".*"))


def test_without_check_files_go_in_as_they_are(here):
    assert call("album", "-o", "shards", "--no-check").exit_code == 0
    assert ("album/broken.jpg", b"\xff\xd8 not a photo") in members("shards")
    assert not Path("shards/bad.txt").exists()


def test_a_shard_of_bad_photos_alone_leaves_no_file(here):
    for i in range(3):
        (here / "album" / f"000{i}.jpg").write_bytes(b"no photo")
    assert call("album", "-o", "shards", "--per-shard", 3).exit_code == 0
    assert not Path("shards/photos-000000.tar").exists() and Path("shards/photos-000001.tar").exists()
    assert call("album", "-o", "shards", "--per-shard", 3).exit_code == 0  # and is not tried again
    assert len(Path("shards/bad.txt").read_text().splitlines()) == 4


def test_a_shard_that_changed_is_noticed(here):
    assert call("album", "-o", "shards", "--per-shard", 4).exit_code == 0
    shard = Path("shards/photos-000001.tar")
    shard.write_bytes(shard.read_bytes()[:-512])
    done = call("album", "-o", "shards", "--per-shard", 4)
    assert done.exit_code == 1 and "photos-000001.tar: has" in done.output and "delete it and its .json" in done.output
    shard.unlink()
    whole = call("album", "-o", "shards", "--per-shard", 4)  # one that is gone is written again
    assert whole.exit_code == 0 and shard.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "-o", "out"], "nothing: no such file or folder"),
        (["album", "-o", "more"], "more: is not empty and has no shards; choose another -o"),
        (["album/notes.txt", "-o", "out"], "album/notes.txt: expected a folder, a tar file or a picture"),
        (["album/broken.jpg", "-o", "out"], "none of 1 photos can be read; the first: album/broken.jpg: "),
        (["album", "-o", "begun", "--per-shard", "3"], "begun: was begun with photos per shard 4, not 3"),
        (["more", "-o", "begun", "--per-shard", "4"], "begun: was begun with "),
    ],
)
def test_bad_input_is_one_line(here, arguments, message):
    assert call("album", "-o", "begun", "--per-shard", 4).exit_code == 0
    done = call(*arguments)
    assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output
    assert [line for line in done.output.splitlines() if line.startswith("Error")][-1].startswith("Error: ")


def test_a_full_disk_is_no_bad_photo(here, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    Path("out").mkdir()
    with pytest.raises(ZerosegError, match=r"photos-000000.tar: cannot be written .No space left"):
        pack(open_plan("out", ["album"], 4))
    assert not list(Path("out").glob("*.tar")) and not list(Path("out").glob(".*"))
