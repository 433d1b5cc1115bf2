"""Datasets made by zeroseg-infer, zeroseg annotate and zeroseg convert, and the input that these refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.annotate.conftest import halves
from tests.color_model import NAMES, vectors
from zeroseg.cli import main
from zeroseg.words import LabelPack

for module in ("onnx", "shapely", "contourpy"):
    pytest.importorskip(module, reason=f"{module} is not installed (extra dev)")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """photos/0.png ... 5.png, coloured halves; 6.jpg, which EXIF rotates by 90 degrees; a bad photo; labels.npz."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i in range(6):
        halves(i, (64 + 31 * (i % 2), 64)).save(f"photos/{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    halves(0, (96, 64)).save("photos/6.jpg", exif=exif, quality=95)
    Path("photos/bad.jpg").write_bytes(b"\xff\xd8")
    LabelPack(NAMES, vectors(*NAMES)).save("labels.npz")


def run(*arguments):
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


@pytest.fixture
def look(color_model):
    """Run a command with the colours as labels; exit code 1 is allowed if the output names the bad photo."""
    return lambda *arguments: run(*arguments, "--labels", "labels.npz", "--model", color_model, "--threads", 1)


def label_maps(folder: Path) -> dict[str, np.ndarray]:
    """VOC's masks by stem."""
    return {file.stem: np.array(Image.open(file)) for file in (folder / "SegmentationClass").iterdir()}


def test_tables_and_json_give_the_same_data_set(look):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra annotate)")
    assert look("annotate", "photos", "-o", "found", "--masks", "--processes", 1).exit_code == 0
    look("infer", "photos", "--save", "json,labels", "--edges", "on")
    for source, name in (("found", "a"), ("zeroseg-out", "b")):
        done = run("convert", source, "--to", "voc", "-o", name)
        assert done.exit_code == 0, done.output
    assert "7 photos as voc: b\n" == done.output
    tables, documents = label_maps(Path("a")), label_maps(Path("b"))
    assert len(tables) == len(documents) == 7
    for stem, classes in tables.items():
        np.testing.assert_array_equal(classes, documents[stem])
        suffix = "jpg" if stem == "6" else "png"
        np.testing.assert_array_equal(classes, np.array(Image.open(f"found/masks/photos/{stem}.{suffix}.png")))
        with Image.open(f"a/JPEGImages/{stem}.jpg") as photo:
            assert photo.size == classes.shape[::-1] and photo.getexif().get(0x0112, 1) == 1
    assert run("convert", "found", "--to", "voc", "-o", "c").output == (
        "7 photos as voc: c; left out 1 that could not be labelled\n"
    )


def test_commands_write_data_sets_themselves(look):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra annotate)")
    done = look("infer", "photos", "--save", "coco,yolo")
    assert "coco: zeroseg-out/coco" in done.output and not Path("zeroseg-out/0.json").exists()
    done = look("annotate", "photos", "-o", "found", "--to", "coco", "--processes", 1)
    assert done.exit_code == 0 and "7 photos as coco: found/coco; left out 1" in done.output, done.output
    one, other = (
        json.loads(Path(folder, "coco/annotations/instances_train.json").read_text())
        for folder in ("zeroseg-out", "found")
    )
    assert one == other and len(one["images"]) == 7 and [c["name"] for c in one["categories"]] == NAMES
    assert len(list(Path("zeroseg-out/yolo").rglob("*.txt"))) == 7
    done = look("annotate", "photos", "-o", "found", "--to", "coco", "--processes", 1)
    assert done.exit_code == 1 and "found/coco: already exists, and its labels may have been corrected" in done.output
    done = look("infer", "photos", "--save", "yolo")
    assert done.exit_code == 1 and "zeroseg-out/yolo: already exists" in done.output


def test_photos_are_copied_byte_for_byte_or_left_where_they_are(look):
    look("infer", "photos", "--save", "json")
    assert run("convert", "zeroseg-out", "--to", "coco", "-o", "with").exit_code == 0
    assert Path("with/images/3.png").read_bytes() == Path("photos/3.png").read_bytes()
    assert run("convert", "zeroseg-out", "--to", "coco", "-o", "without", "--no-photos").exit_code == 0
    document = json.loads(Path("without/annotations/instances_train.json").read_text())
    assert document["images"][0]["file_name"] == "photos/0.png" and not Path("without/images").exists()


def test_bad_input_is_refused(look):
    look("infer", "photos", "--save", "json")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    other = json.loads(Path("zeroseg-out/0.json").read_text())
    other["labels"] = other["labels"][:2]
    Path("mixed").mkdir()
    shutil.copy("zeroseg-out/1.json", "mixed/1.json")
    Path("mixed/2.json").write_text(json.dumps(other))
    for arguments, message in (
        (["zeroseg-out", "-o", "full"], "full: already exists, and its labels may have been corrected; choose"),
        (["nowhere", "-o", "new"], "nowhere: no such file or folder; expected what zeroseg-infer or zeroseg annotate"),
        (["photos", "-o", "new"], "photos: has no zeroseg results; expected a folder of zeroseg annotate"),
        (["mixed", "-o", "new"], "mixed/2.json: was made with other labels than mixed/1.json"),
        (["zeroseg-out", "mixed/2.json", "-o", "new"], "mixed/2.json: was made with other labels than zeroseg-out"),
    ):
        done = run("convert", *arguments, "--to", "yolo")
        assert done.exit_code == 1 and done.output.startswith(f"Error: {message}"), done.output
    Path("photos/2.png").unlink()
    done = run("convert", "zeroseg-out", "--to", "yolo", "-o", "new")
    assert done.exit_code == 1 and "photos/2.png: was labelled, but can no longer be read" in done.output
    halves(0, (30, 20)).save("photos/2.png")
    done = run("convert", "zeroseg-out", "--to", "yolo", "-o", "new")
    assert done.exit_code == 1 and "it is not the photo that was labelled" in done.output
    assert not Path("new").exists() and not list(Path().glob(".*partial*"))
    assert Path("full/mine.txt").read_text() == "mine"


def test_an_unfinished_collection_is_refused(look):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra annotate)")
    look("annotate", "photos", "-o", "found", "--processes", 1, "--part-size", 3)
    next(Path("found/parts").iterdir()).unlink()
    done = run("convert", "found", "--to", "coco", "-o", "new")
    assert done.exit_code == 1 and "not all of its 8 photos are labelled yet" in done.output
