"""Truncated lists, damaged tables, vanished folders, changed shards: reported in one line or made again."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.annotate.conftest import PHOTOS
from zeroseg.annotate import job
from zeroseg.cli import main
from zeroseg.collection.plan import Plan, open_plan
from zeroseg.errors import ZerosegError

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra annotate)")


def call(*args):
    return CliRunner().invoke(main, [*map(str, args)])


def one_line(result) -> str:
    assert result.exit_code == 1 and "Traceback" not in result.output, result.output
    [line] = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    return line


@pytest.fixture
def common(color_model, color_labels, collection, monkeypatch):
    monkeypatch.chdir(collection)
    return ["annotate", "album", "more", "--model", color_model, "--labels", color_labels, "-o", "out"]


def rows(folder="out") -> list[dict]:
    files = sorted((Path(folder) / "parts").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def cut(lines: int):
    def change(path: Path, told: bool) -> None:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
        if not told:  # plan.json of an earlier version, which says nothing of the list's length
            about = json.loads(path.with_name("plan.json").read_text())
            about.pop("list_bytes", None)
            path.with_name("plan.json").write_text(json.dumps(about))

    return change


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("lines", [PHOTOS - 1, 12, 0])
@pytest.mark.parametrize("command", ["annotate", "pack"])
def test_a_list_that_was_cut_off_loses_no_photo_silently(common, lines, told, command):
    Path("out", "parts").mkdir(parents=True)
    args = common if command == "annotate" else ["pack", "album", "more", "-o", "out"]
    if command == "pack":
        Path("out/parts").rmdir()
        Path("out/pack.json").write_text(json.dumps({"photos_per_shard": 5, "check": True}))
        args = [*args, "--per-shard", 5]
    else:
        args = [*args, "--processes", 1]
    open_plan("out", ["album", "more"], part_size=5)
    cut(lines)(Path("out/plan.jsonl"), told)
    assert "plan.jsonl: " in one_line(call(*args)) and not Path("out/bad.txt").exists()


def test_a_line_that_is_no_photo_is_named(collection, tmp_path):
    (tmp_path / "out").mkdir()
    plan = open_plan(tmp_path / "out", [collection / "album"], part_size=4)
    path = tmp_path / "out" / "plan.jsonl"
    data = bytearray(path.read_bytes())
    data[3] = ord('"')
    path.write_bytes(data)
    with pytest.raises(ZerosegError, match="plan.jsonl: is damaged or truncated in part 0"):
        plan.part(0)


def test_the_list_is_on_the_disk_before_the_plan_is(collection, tmp_path, monkeypatch):
    synced, flush = [], os.fsync

    def fsync(handle):
        synced.append(os.fstat(handle).st_ino)
        assert not (tmp_path / "plan.json").exists() or len(synced) > 5
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    open_plan(tmp_path, [collection / "album"], part_size=4)
    inodes = [(tmp_path / name).stat().st_ino for name in ("plan.jsonl", "plan.idx", "plan.json")]
    assert [inode for inode in synced if inode in inodes] == inodes


@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 500])
def test_a_table_that_cannot_be_read_is_made_again(common, spoil):
    args = [*common, "--processes", 1, "--part-size", 5]
    assert call(*args).exit_code == 0
    before, table = rows(), Path("out/parts/part-000002.parquet")
    table.write_bytes(spoil(table.read_bytes()))
    result = call(*args)
    assert result.exit_code == 0 and "17 of them before; 5 in" in result.output
    assert rows() == before


def test_a_table_with_other_bytes_inside_is_named(common):
    args = [*common, "--processes", 1, "--part-size", 5]
    assert call(*args).exit_code == 0
    table = Path("out/parts/part-000001.parquet")
    data = bytearray(table.read_bytes())
    data[30] ^= 16  # within the first page of names
    table.write_bytes(data)
    assert f"{table.absolute()}: is damaged" in one_line(call("annotate", "-o", "out", "--summary"))


def test_tables_and_masks_are_on_the_disk_when_they_have_their_names(common, monkeypatch):
    synced, flush = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), flush(handle)))
    assert call(*common, "--processes", 1, "--masks", "--part-size", 11).exit_code == 0
    made = [*Path("out/parts").glob("*.parquet"), *Path("out/masks").rglob("*.png")]
    assert len(made) == 2 + PHOTOS - 2 and {path.stat().st_ino for path in made} <= synced


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "no tar"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_folder_that_disappears_stops_the_job_and_marks_nothing_as_bad(common, left, processes):
    args = [*common, "--processes", processes, "--part-size", 3]
    Path("out/parts").mkdir(parents=True)
    open_plan("out", ["album", "more"], part_size=3)  # the photos are listed, then the disk is unplugged
    gone, away = (Path("more/pack.tar") if left == "no tar" else Path("album/x")), Path("away")
    shutil.move(gone, away)
    if left == "an empty folder":
        gone.mkdir()
    line = one_line(call(*args))
    assert f"{gone.absolute()}: has disappeared since the photos were listed; restore it" in line
    if left == "an empty folder":
        gone.rmdir()
    shutil.move(away, gone)
    assert call(*args).exit_code == 0
    assert len({row["path"] for row in rows()}) == PHOTOS and sum(row["error"] is not None for row in rows()) == 2


def test_pack_stops_too_if_a_folder_disappears(common):
    Path("out").mkdir()
    Path("out/pack.json").write_text(json.dumps({"photos_per_shard": 5, "check": True}))
    open_plan("out", ["album", "more"], part_size=5)
    shutil.move("album/x", "away")
    args = ["pack", "album", "more", "-o", "out", "--per-shard", 5]
    assert "album/x: has disappeared since the photos were listed" in one_line(call(*args))
    shutil.move("away", "album/x")
    assert call(*args).exit_code == 0 and len(Path("out/bad.txt").read_text().splitlines()) == 2


def test_one_photo_that_was_deleted_is_one_bad_photo(common):
    Path("out/parts").mkdir(parents=True)
    open_plan("out", ["album", "more"], part_size=30)
    Path("album/x/01.png").unlink()
    result = call(*common, "--processes", 1)
    assert result.exit_code == 0 and "3 bad photos" in result.output


def test_a_full_disk_stops_masks_and_is_no_bad_photo(common, monkeypatch):
    from PIL import Image

    save = Image.Image.save

    def full(picture, path, *args, **kwargs):
        if "masks" in str(path):
            raise OSError(28, "No space left on device")
        save(picture, path, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", full)
    assert "cannot be written (No space left on device)" in one_line(call(*common, "--processes", 1, "--masks"))
    assert not rows()


def test_a_name_that_no_mask_can_have_is_one_bad_photo(common):
    Path("out/masks/album/x").mkdir(parents=True)
    Path("out/masks/album/x/01.png.png").mkdir()
    result = call(*common, "--processes", 1, "--masks")
    assert result.exit_code == 0 and "3 bad photos" in result.output, result.output


@pytest.mark.parametrize("place", [600, -1200])
def test_a_shard_with_other_bytes_is_refused(common, place):
    args = ["pack", "album", "more", "-o", "shards", "--per-shard", 5]
    assert call(*args).exit_code == 0
    shard = Path("shards/photos-000001.tar")
    data = bytearray(shard.read_bytes())
    data[place] ^= 1
    shard.write_bytes(data)
    assert f"{shard}: was changed after it was written (its SHA-256 differs); delete it and its .json" in one_line(
        call(*args)
    )
    shard.unlink()
    shard.with_suffix(".json").unlink()
    assert call(*args).exit_code == 0 and call(*args).exit_code == 0


def test_done_parts_are_those_that_can_be_read(common):
    assert call(*common, "--processes", 1, "--part-size", 5).exit_code == 0
    plan = Plan("out")
    assert job.done_parts(Path("out"), plan) == bytes([1] * 5)
    Path("out/parts/part-000003.parquet").write_bytes(b"")
    assert job.done_parts(Path("out"), plan) == bytes([1, 1, 1, 0, 1])
