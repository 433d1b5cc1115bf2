"""Names and labels that an output's encoding or UTF-8 cannot hold: every command finishes and loses nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.color_model import SPACE, vectors
from zeroseg.words import LabelPack

pytest.importorskip("onnx")
ROOT = Path(__file__).resolve().parent.parent
LABELS = ["\u043c\u0430\u043a", "\u20ac sea"]  # Cyrillic, and a sign that Latin-1 lacks


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LabelPack(LABELS, vectors("red", "blue"), SPACE).save("labels.npz")
    Path("photos").mkdir()
    for name in ("\u0444\u043e\u0442\u043e.png", "zebra.png"):
        Image.new("RGB", (80, 60), "red").save(Path("photos", name))


def start(*arguments, encoding="ascii") -> subprocess.CompletedProcess:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from zeroseg.cli import main; main()"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, env=environment)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_cannot_be_printed_do_not_end_the_run(color_model, encoding):
    done = start("infer", "photos", "--labels", "labels.npz", "--model", color_model, encoding=encoding)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    shown = (Path("photos") / "\u0444\u043e\u0442\u043e.png").as_posix()
    assert shown.encode(encoding, "backslashreplace").decode(encoding) in text
    assert LABELS[0].encode(encoding, "backslashreplace").decode(encoding) in text
    assert "photos/zebra.png  80 x 60" in text and "2 photos" in text
    document = json.loads(Path("zeroseg-out/\u0444\u043e\u0442\u043e.json").read_text(encoding="utf-8"))
    assert document["image"] == shown and LABELS[0] in json.dumps(document, ensure_ascii=False)


def test_words_shows_what_it_cannot_print():
    done = start("words", "\u043b\u043e\u0436\u043a\u0430,cat", encoding="cp1252")
    assert done.returncode == 0 and b"\\u043b\\u043e" in done.stdout and b"  cat" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_lines_on_standard_output_are_json_in_any_encoding(color_model, encoding):
    pytest.importorskip("av")
    done = start(
        "infer", "photos", "--labels", "labels.npz", "--model", color_model, "--jsonl", "-", encoding=encoding
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.decode(encoding).splitlines()]
    assert [line["found"][0]["label"] for line in lines] == [LABELS[0]] * 2
    assert list(lines[0]["scores"]) == LABELS


@pytest.fixture
def latin() -> str:
    """A photo whose name is Latin-1, as old cameras and archives have them."""
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Image.new("RGB", (80, 60), "red").save(Path("photos", name))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return name


def test_names_that_are_no_utf8_are_named_and_written(color_model, latin):
    done = start("infer", "photos", "--labels", "labels.npz", "--model", color_model, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "photos/caf\\xe9.png  80 x 60" in done.stdout.decode()
    document = json.loads(Path("zeroseg-out", latin).with_suffix(".json").read_text(encoding="utf-8"))
    assert document["image"] == "photos/caf\\xe9.png"
    Path("photos", latin).write_bytes(b"no picture")
    done = start("infer", "photos", "--labels", "labels.npz", "--model", color_model, encoding="utf-8")
    assert done.returncode == 1 and b"caf\\" in done.stderr and b"not a picture" in done.stderr


def test_names_that_are_no_utf8_are_trained_on(latin):
    from zeroseg.training.photos import UnreadablePhoto, find_photos

    photos = find_photos("photos")
    assert photos.names == (latin, "zebra.png", "\u0444\u043e\u0442\u043e.png")
    assert np.asarray(photos.read(0))[0, 0].tolist() == [255, 0, 0]
    Path("photos", latin).write_bytes(b"no picture")
    with pytest.raises(UnreadablePhoto, match=r"photo photos/caf\\xe9.png cannot be read: not a picture"):
        find_photos("photos").read(0)


def test_photos_with_the_longest_names_have_results_of_their_own(color_model):
    for last in "ab":
        Path("photos/zebra.png").with_name("y" * 250 + last + ".png").write_bytes(Path("photos/zebra.png").read_bytes())
    done = start("infer", "photos", "--labels", "labels.npz", "--model", color_model)
    assert done.returncode == 0, done.stderr
    assert len(list(Path("zeroseg-out").glob("*_overlay.png"))) == 4
    images = {json.loads(path.read_text())["image"] for path in Path("zeroseg-out").glob("*.json")}
    assert len(images) == 4
