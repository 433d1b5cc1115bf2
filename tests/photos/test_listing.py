"""The walk over folders: which files are photos, and that loops of links end."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroseg.collection.listing import list_photos
from zeroseg.commands import photo_files
from zeroseg.errors import ZerosegError
from zeroseg.evaluation.folders import paired_files
from zeroseg.export import gate
from zeroseg.files import save_png
from zeroseg.live.sources import picture_paths
from zeroseg.photos.listing import SUFFIXES, expand, folders, photos_below, photos_in
from zeroseg.training.photos import find_photos
from zeroseg.training.shards import find_shards


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (9, 99, 199)).save(path, format="PNG")
    return path


@pytest.fixture
def looped(tmp_path, monkeypatch) -> Path:
    """album/a.png and album/sub/b.png, with two loops of links and a link to a folder outside, in which is c.png."""
    album = save(tmp_path / "album/a.png").parent
    save(album / "sub/b.png")
    save(tmp_path / "elsewhere/c.png")
    (album / "0loop").symlink_to(album)
    (album / "sub/up").symlink_to("..")
    (album / "sub/self").symlink_to("self")
    (album / "zlink").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    return album


WALKED = ["a.png", "sub/b.png", "zlink/c.png"]


def test_loops_of_links_give_every_photo_once_under_its_own_name(looped):
    assert [Path(photo.path).relative_to(looped).as_posix() for photo in photos_below(looped)] == WALKED
    assert find_photos(looped).names == tuple(WALKED)
    assert [photo.path for photo in list_photos(["album"])] == [f"album/{name}" for name in WALKED]
    assert [photo.path for photo in list_photos(["elsewhere", "album"])] == [
        "elsewhere/c.png",
        "album/a.png",
        "album/sub/b.png",
    ]
    assert len(gate.photos_of(looped)) == 3


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("album/**/*.png", ["album/a.png", "album/sub/b.png", "album/zlink/c.png"]),
        ("**/b.png", ["album/sub/b.png"]),
        ("album/**", ["album/a.png", "album/sub/b.png", "album/zlink/c.png"]),
        ("*/**/sub/**/*.png", ["album/sub/b.png", "album/sub/up/a.png", "album/sub/up/zlink/c.png"]),
        ("album/*.png", ["album/a.png"]),
        ("nowhere/**/*.png", []),
    ],
)
def test_two_stars_follow_each_folder_once(looped, capsys, pattern, names):
    assert [path.as_posix() for path in expand(pattern)] == names
    assert [path.as_posix() for path in photo_files.find_photos([pattern])[0]] == names
    assert capsys.readouterr().err == ("" if names else f"Error: {pattern}: no file matches this pattern\n")
    if names:
        assert [path.as_posix() for path in picture_paths([pattern])] == names


@pytest.mark.parametrize("pattern", ["[2024] Rome/*.png", "[2024] Rome/**/*.png", "[[]2024] Rome/*.png"])
def test_a_folder_that_is_there_is_no_pattern(tmp_path, monkeypatch, pattern):
    save(tmp_path / "[2024] Rome/a.png")
    monkeypatch.chdir(tmp_path)
    assert expand(pattern) == [Path("[2024] Rome/a.png")]


def test_results_of_names_that_differ_by_case_are_two_files_on_any_disk(tmp_path):
    photos = [Path(name) for name in ("A.jpg", "a.png", "e\u0301.jpg", "\u00e9.jpg")]
    outputs = photo_files.plan_outputs(photos, tmp_path, ["json"])
    assert [files["json"].name for files in outputs.values()] == ["A.json", "a-2.json", "e\u0301.json", "\u00e9-2.json"]


def test_a_folder_with_loops_has_its_advice_at_once(looped, capsys):
    photos, failed = photo_files.find_photos(["album"])
    assert ([photo.name for photo in photos], failed) == (["a.png"], 0)
    assert "folders with pictures" in capsys.readouterr().err


def test_every_suffix_counts_everywhere(tmp_path):
    files = sorted(save(tmp_path / f"images/{suffix[1:]}{suffix}") for suffix in SUFFIXES)
    for path in files:
        save(tmp_path / "masks" / f"{path.stem}.png")
    names = tuple(path.name for path in files)
    assert photos_in(tmp_path / "images") == files
    assert find_photos(tmp_path / "images").names == names
    assert tuple(path.name for path in picture_paths([str(tmp_path / "images")])) == names
    assert tuple(path.name for path in photo_files.find_photos([str(tmp_path / "images")])[0]) == names
    assert tuple(Path(photo.path).name for photo in list_photos([tmp_path / "images"])) == names
    assert sorted(paired_files(tmp_path, "images", "masks").photos) == files
    (tmp_path / "images/photos-000000.tar").write_bytes(bytes(1024))
    with pytest.raises(ZerosegError, match="has both shards and photos such as apng.apng"):
        find_shards(tmp_path / "images", 1)


def test_own_results_and_hidden_files_are_no_photos(tmp_path):
    for name in ("x_overlay.png", "x_labels.png", "contact.png"):
        save_png(tmp_path / name, Image.fromarray(np.zeros((4, 4), np.uint8)))
    save(tmp_path / "mine_overlay.png")  # a user's file that is called so
    save(tmp_path / "._x.png")
    save(tmp_path / ".trash/x.png")
    wanted = ["mine_overlay.png"]
    assert [path.name for path in photo_files.find_photos([str(tmp_path)])[0]] == wanted
    assert [path.name for path in picture_paths([str(tmp_path)])] == wanted
    assert list(find_photos(tmp_path).names) == wanted
    assert [Path(photo.path).name for photo in list_photos([tmp_path])] == wanted
    assert len(gate.photos_of(tmp_path)) == 1


def test_folders_come_in_order_whatever_is_taken_of_them(tmp_path):
    for name in ("b/2/x.png", "b/1/x.png", "a/x.png", "c.png"):
        save(tmp_path / name)
    order = [os.path.relpath(folder, tmp_path) for folder, _ in folders(tmp_path)]
    assert order == [".", "a", "b", "b/1", "b/2"]


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(ZerosegError, match="nothing: cannot be read \\(No such file or directory\\)$"):
        photos_in(tmp_path / "nothing")
