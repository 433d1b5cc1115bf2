"""Files are there whole or not at all, and what cannot be written is named as the user named it."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zeroseg import LabelPack, ZerosegError
from zeroseg.cli import main
from zeroseg.files import (
    fitting,
    is_signed_png,
    make_folder,
    remove_leftovers,
    save_png,
    sha256,
    whole_file,
    write_text,
)

CLASSES = "background\ncat\n"


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "found.txt"
    with whole_file(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        partial.write_text("sec")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and [file.name for file in tmp_path.iterdir()] == ["found.txt"]


@pytest.mark.parametrize("length", [100, 234, 235, 255])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, length):
    from fractions import Fraction

    path = tmp_path / ("\u00e9" * ((length - 4) // 2) + "x" * (length % 2) + ".png")
    assert len(path.name.encode()) == length
    save_png(path, Image.new("L", (3, 2), 7))
    assert np.asarray(Image.open(path)).tolist() == [[7] * 3] * 2
    pytest.importorskip("av")
    from zeroseg.live.frame import Frame
    from zeroseg.live.sinks import Output, VideoFile

    video = VideoFile(path.with_suffix(".mp4"))
    image = np.zeros((32, 32, 3), np.uint8)
    video.write(Output(Frame(image, 0, 0, Fraction(1, 25), 1), None, image, {}))
    assert video.close() == [f"wrote {path.with_suffix('.mp4')}: 1 frames"]
    assert {file.name for file in tmp_path.iterdir()} == {path.name, path.with_suffix(".mp4").name}


def test_long_names_are_cut_and_stay_apart():
    names = [f"{'x' * 300}{i}.jpg" for i in range(3)]
    cut = [fitting(name, 12) for name in names]
    assert len({*cut}) == 3 and all(len(name) == 243 and name.endswith(".jpg") for name in cut)
    assert fitting("a.jpg", 12) == "a.jpg" and fitting("x" * 243, 12) == "x" * 243


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_a_png_is_replaced_only_by_the_one_who_wrote_it(tmp_path, mode):
    path = tmp_path / "000000_labels.png"
    for value in (1, 2):
        save_png(path, Image.new(mode, (300, 200), value))
    before = np.asarray(Image.open(path)).copy()
    assert before.flat[0] == 2 and is_signed_png(path)
    Image.open(path).save(path)  # by the user's own program, from now on theirs
    assert not is_signed_png(path)
    with pytest.raises(ZerosegError) as error:
        save_png(path, Image.new(mode, (300, 200), 3))
    assert str(error.value) == f"{path}: was not written by zeroseg and would be overwritten; choose another --out"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), before)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "nowhere" / "labels.npz"
    with pytest.raises(ZerosegError) as error:
        LabelPack(["cat"], np.eye(1, 512, dtype=np.float32)).save(path)
    assert str(error.value) == f"{path}: cannot be written (No such file or directory)"


def test_a_folder_is_made_with_those_above_it(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("out", ["taken", "taken/below"])
@pytest.mark.parametrize(
    "command",
    [
        ["infer", "photo.png", "--labels", "cat", "--out"],
        ["pack", "photo.png", "--out"],
        ["eval", "set", "--out"],
        ["annotate", "photo.png", "--labels", "cat", "--out"],
    ],
    ids=lambda command: command[0],
)
def test_an_output_folder_that_cannot_be_made_is_named(command, out, tmp_path, monkeypatch, color_model):
    if command[0] == "annotate":
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    picture = Image.new("RGB", (40, 40), "red")
    picture.save("photo.png")
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        picture.convert("L").save(f"set/{folder}/a.png")
    (tmp_path / "set" / "classes.txt").write_text(CLASSES)
    model = [] if command[0] == "pack" else ["--model", str(color_model)]
    done = CliRunner().invoke(main, [*command, out, *model])
    assert done.exit_code in (1, 2) and "it/s" not in done.output and "Errno" not in done.output
    assert re.search(rf"--out.* '?{out}'?(: cannot be created \(.*\)| is a file)", done.output), done.output
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, steps = tmp_path / "plan.json", []
    flush, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append(os.fstat(handle).st_ino), flush(handle)))
    monkeypatch.setattr(Path, "replace", lambda old, new: (steps.append("named"), replace(old, new))[1])
    write_text(path, "whole", durable=True)
    assert steps == [path.stat().st_ino, "named", tmp_path.stat().st_ino]
    steps.clear()
    write_text(path, "whole")
    assert steps == ["named"]


def test_a_long_name_leaves_room_for_the_place_that_is_written_to(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")  # 255 bytes, the most that file systems take
    write_text(path, "found")
    assert path.read_text() == "found"


def test_what_killed_processes_leave_is_removed(tmp_path):
    kept = tmp_path / ".hidden"
    kept.write_text("the user's")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.npz", suffix=".npz") as partial:
        partial.write_text("half")
        partial.rename(tmp_path / ".0123456789abcdef.partial.npz")
        raise ZeroDivisionError
    (tmp_path / ".0123456789abcdef.partial").write_text("half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def test_sha256_is_that_of_the_whole_file(tmp_path):
    data = np.random.default_rng(0).bytes((1 << 20) + 17)
    (tmp_path / "data").write_bytes(data)
    assert sha256(tmp_path / "data") == hashlib.sha256(data).hexdigest()
