"""zeroseg index: the table against the segmenter's results; changed and vanished files; kills, faults, videos."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.color_model import NAMES, write_color_model
from tests.search.conftest import COLORS, command, picture, table_rows
from zeroseg.masks import bounding_box
from zeroseg.search import encoding, frames, indexing, units
from zeroseg.search.encoding import unpack_map
from zeroseg.search.store import Store
from zeroseg.segment.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[2]


def test_table_equals_the_models_output(indexed, color_model, color_words_file, album):
    lancedb = pytest.importorskip("lancedb")
    rows = lancedb.connect(str(indexed)).open_table("segments").to_arrow().to_pylist()
    assert len(rows) == 5 * len(NAMES) and (indexed / "bad.txt").read_text().startswith("album/broken.jpg\t")
    segmenter = Segmenter.load(color_model, threads=1).set_labels(color_words_file)
    by_path = {}
    for row in rows:
        by_path.setdefault(row["path"], []).append(row)
    assert {*by_path} == {f"album/{path.relative_to(album)}" for path in album.rglob("*.png")}
    for path, segments in by_path.items():
        wanted, encoded = segmenter.segment(path), segmenter.encode(path)
        for row in segments:
            k = row["segment"]
            np.testing.assert_array_equal(np.float32(row["vector"]), encoded.embeddings[k])
            np.testing.assert_array_equal(unpack_map(row["map"], (row["rows"], row["columns"])), encoded.maps[k])
            mask = wanted.label_map == k  # the k-th label is the k-th segment
            assert row["area"] == mask.sum() and tuple(row["box"]) == bounding_box(mask)
            assert (row["height"], row["width"]) == wanted.label_map.shape
            assert row["bytes"] == os.stat(path).st_size and row["position_s"] is None
    [row] = [row for row in by_path["album/more/1_green.png"] if row["segment"] == 0]
    assert row["taken"].isoformat() == "2024-05-11T12:00:00"
    assert by_path["album/blue only.png"][0]["taken"] is None


def test_what_a_search_stores_is_made_by_the_index(indexed, album, color_model, monkeypatch):
    monkeypatch.setattr("zeroseg.search.collection._KEPT_FROM", 6)
    options = ("-o", "collection", "--model", color_model, "--processes", 1)
    assert command("index", *options).exit_code == 0 and not [*indexed.glob("reduced-*")]
    picture("green", "red").save(album / "sixth.png")
    done = command("index", *options)
    assert done.exit_code == 0 and "preparing searches: 100%" in done.stderr and "12/12" in done.stderr, done.stderr
    assert [path.name for path in indexed.glob("reduced-*")] == [f"reduced-{Store(indexed).version()}"]


def test_only_new_or_changed_files_are_encoded(indexed, album, color_model, monkeypatch):
    encoded = []
    unit = encoding.Encoder.unit
    monkeypatch.setattr(encoding.Encoder, "unit", lambda self, one: encoded.append(one.photo.path) or unit(self, one))
    options = ("-o", "collection", "--model", color_model, "--processes", 1)
    assert "0 new or changed, 0 vanished, 6 as before" in command("index", *options).output and encoded == []
    (album / "0_red.png").unlink()
    picture("red", "red").save(album / "more" / "1_green.png")
    picture("green", "red").save(album / "it's new.png")
    picture("red", "blue").save(album / "broken.jpg")  # it is repaired
    done = command("index", "album", *options)
    assert done.exit_code == 0 and "3 new or changed, 1 vanished, 3 as before" in done.output, done.output
    assert sorted(encoded) == ["album/broken.jpg", "album/it's new.png", "album/more/1_green.png"]
    assert not (indexed / "bad.txt").exists()
    fresh = command("index", "album", "-o", "fresh", *options[2:])
    assert fresh.exit_code == 0 and table_rows(indexed) == table_rows("fresh")


def test_other_folders_are_added_and_checked(indexed, album, color_model):
    (album.parent / "second").mkdir()
    picture("dark", "red").save(album.parent / "second" / "a.png")
    picture("dark", "red").save(album / "late.png")
    done = command("index", "second", "-o", "collection", "--model", color_model, "--processes", 1)
    assert "6 images in collection: 1 new or changed, 0 vanished" in done.output, done.output
    done = command("index", "-o", "collection", "--model", color_model, "--processes", 1)
    assert "7 images in collection: 1 new or changed, 0 vanished, 7 as before" in done.output, done.output
    assert {"album/late.png", "second/a.png"} < {row[0] for row in table_rows(indexed)}


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_kill_loses_and_repeats_no_image(album, color_model):
    """Two processes that are killed after the first commits, against one that runs undisturbed."""
    for i in range(16):
        picture(NAMES[i % 4], NAMES[(i + 2) % 4], (900, 700)).save(album / f"large {i}.png", compress_level=0)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from zeroseg.search import indexing; indexing.APPEND_IMAGES = 2; indexing.BATCH = 1\n"
        "from zeroseg.cli import main\nif __name__ == '__main__': main()"
    )
    Path("run.py").write_text(code)
    args = ["index", "album", "--model", str(color_model)]
    job = subprocess.Popen(
        [sys.executable, "run.py", *args, "-o", "killed", "--processes", "2"], stderr=subprocess.PIPE
    )
    until = time.monotonic() + 60
    versions = Path("killed/segments.lance/_versions")
    while not versions.is_dir() or len(list(versions.iterdir())) < 4:
        assert job.poll() is None and time.monotonic() < until, job.communicate()
        time.sleep(0.01)
    job.kill()
    job.communicate()
    assert job.returncode == -signal.SIGKILL
    before = Store("killed").count()
    assert 0 < before < 21
    done = command(*args, "-o", "killed", "--processes", 1)
    assert done.exit_code == 0 and f"21 images in killed: {21 - before} new" in done.output, done.output
    assert command(*args, "-o", "whole", "--processes", 1).exit_code == 0
    assert table_rows("killed") == table_rows("whole") and len(table_rows("whole")) == 4 * 21


def test_a_full_disk_keeps_finished_photos(album, color_model, monkeypatch):
    monkeypatch.setattr(indexing, "APPEND_IMAGES", 2)
    monkeypatch.setattr(indexing, "BATCH", 1)
    append, calls = Store.append, []

    def fill_up(store, some, image):
        calls.append(len(some))
        if len(calls) == 2:
            monkeypatch.setattr(store.table("segments"), "add", full)
        return append(store, some, image)

    def full(*args, **options):
        raise RuntimeError("lance error: LanceError(IO): No space left on device (os error 28), /rustc/io.rs:100:1")

    monkeypatch.setattr(Store, "append", fill_up)
    args = ("index", "album", "-o", "collection", "--model", color_model, "--processes", 1)
    done = command(*args)
    assert done.exit_code == 1 and "Error: collection: the disk is full; finished photos are kept" in done.output
    assert "Traceback" not in done.output and 0 < Store("collection").count() < 5
    monkeypatch.setattr(Store, "append", append)
    assert command(*args).exit_code == 0 and len({*table_rows("collection")}) == len(table_rows("collection")) == 20


@pytest.fixture
def clip(album):
    """2.4 s at 10 fps: red, from 0.9 s blue, and from 1.7 s blue with a green spot."""
    pytest.importorskip("av")
    from tests.live.conftest import write_video

    red, blue = (np.asarray(picture(name, name)).copy() for name in ("red", "blue"))
    spot = blue.copy()
    spot[20:36, 20:36] = COLORS["green"]
    return write_video(album / "clip.mp4", [red] * 9 + [blue] * 8 + [spot] * 7, rate=10)


@pytest.mark.parametrize(("stretch", "kept"), [(64, [0.0, 1.0, 1.75]), (3, [0.0, 0.75, 1.0, 1.5, 1.75, 2.25])])
def test_videos_give_a_frame_when_something_changes(clip, color_model, monkeypatch, stretch, kept):
    monkeypatch.setattr(units, "STRETCH", stretch)
    done = command("index", clip, "-o", "c", "--model", color_model, "--processes", 1, "--every", "0.25s")
    assert done.exit_code == 0 and "1 videos" in done.output, done.output
    found = sorted(row[5] for row in table_rows("c") if row[1] == 0)
    assert found == pytest.approx(kept, abs=0.1)  # frames come every 0.1 s: the first at or after a position
    for position_s in found:
        shown = np.asarray(frames.frame_at(str(clip), position_s), int)
        name = "red" if position_s < 0.9 else "blue"
        assert np.abs(shown[50:, 50:] - COLORS[name]).mean() < 12
        assert (shown[28, 28, 1] > 150) == (position_s > 1.65)
    assert "as before" in command("index", "-o", "c", "--model", color_model, "--every", "0.25s").output


def test_two_writers_at_once_are_refused(indexed, color_model):
    with Store(indexed).writing():
        done = command("index", "album", "-o", "collection", "--model", color_model)
    assert done.exit_code == 1
    assert done.output.strip().endswith("another zeroseg index is writing there; wait for it, or end it")


def _edit(indexed, **changes):
    store = Store(indexed)
    about = {key: value for key, value in store.about().items() if key != "format"}
    sidecar = about.pop("sidecar")
    store.describe(sidecar, about | changes)


BAD = {
    "another model": (lambda at: None, "was made with another model (colors, sha256"),
    "another space": (lambda at: None, "its segments are in the space openai/clip-vit-base-patch32, this model's in x"),
    "a newer format": (lambda at: _edit(at, format=3), "a collection of format 3, this version of zeroseg reads 2"),
    "other positions": (lambda at: _edit(at, every_s=5.0), "was made with --every 5s"),
    "no such folder": (lambda at: None, "gone: no such file or folder"),
    "an unmounted disk": (
        lambda at: [path.unlink() for path in (at.parent / "album").rglob("*.*")],
        "has no photo or video now, but had 6 before",
    ),
    "cut off": (
        lambda at: [os.truncate(file, 100) for file in (at / "segments.lance" / "data").iterdir()],
        "a file may be damaged or cut off",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(indexed, color_model, tmp_path, case):
    spoil, message = BAD[case]
    spoil(indexed)
    model = color_model
    if case in ("another model", "another space"):
        changes = {"embedding_space": "x"} if case == "another space" else {}
        model = write_color_model(tmp_path, "other", **changes)
        document = json.loads(model.with_suffix(".json").read_text())
        model.write_bytes(model.read_bytes() + b"\x32\x00")  # an empty field more
        digest = __import__("hashlib").sha256(model.read_bytes()).hexdigest()
        model.with_suffix(".json").write_text(json.dumps(document | {"files": {model.name: digest}}))
    source = "gone" if case == "no such folder" else "album"
    done = command("index", source, "-o", "collection", "--model", model, "--processes", 1)
    assert done.exit_code == 1, done.output
    [line] = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert message in line and "Traceback" not in done.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("index", "-o", "new"), "new: no such collection; give the photos to encode: zeroseg index PHOTOS -o"),
        (("index", "album", "-o", "new", "--every", "soon"), "expected a time from 0.01s to 24h"),
        (("search", "nowhere", "red"), "nowhere: no such collection; make one with: zeroseg index PHOTOS -o nowhere"),
        (("search", "album", "red"), "album: is not a collection; make one with"),
    ],
)
def test_a_wrong_command_is_one_line(album, args, message):
    done = command(*args)
    assert done.exit_code in (1, 2) and message in done.output.splitlines()[-1]
