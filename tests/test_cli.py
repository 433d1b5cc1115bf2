"""The commands as a user meets them: what they print, write and refuse, and that nothing ends in a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.color_model import SPACE, vectors
from zeroseg.artifact import BUNDLED, DEFAULT_MODEL
from zeroseg.cli import COMMANDS, main
from zeroseg.commands.doctor import doctor
from zeroseg.commands.infer import infer
from zeroseg.words import LabelPack

pytest.importorskip("onnx")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Each test runs in a folder of its own that holds photo.png (red above dark) and labels.npz."""
    monkeypatch.chdir(tmp_path)
    image = np.zeros((60, 80, 3), np.uint8)
    image[:30] = [255, 0, 0]
    Image.fromarray(image).save("photo.png")
    LabelPack(
        ["rose", "sea"], vectors("red", "blue"), SPACE, kind=["noun", "name"], nearest=[["tulip", "daisy"], []]
    ).save("labels.npz")


@pytest.fixture
def run(color_model):
    def invoke(*arguments, labels="labels.npz"):
        return CliRunner().invoke(
            infer, [*map(str, arguments), "--labels", labels, "--model", str(color_model), "--threads", "1"]
        )

    return invoke


def written(folder="zeroseg-out"):
    return sorted(path.name for path in Path(folder).iterdir())


def test_one_photo(run):
    done = run("photo.png")
    assert done.exit_code == 0, done.output
    assert written() == ["photo.json", "photo_labels.png", "photo_overlay.png"]
    labels = np.asarray(Image.open("zeroseg-out/photo_labels.png"))
    assert labels.shape == (60, 80) and labels[5, 5] == 1 and labels[55, 5] == 0
    document = json.loads(Path("zeroseg-out/photo.json").read_text())
    assert document["image"] == "photo.png" and document["found"][0]["category"] == "rose"
    assert "~ rose: not in the model's vocabulary; its meaning is approximate, near tulip, daisy" in done.output
    for part in (
        "photo.png  80 x 60",
        "~ rose",
        "score 1.000",
        "% of the photo",
        "ms: load",
        "network",
        "write",
        "photo_overlay.png",
        "model colors on onnxruntime",
    ):
        assert part in done.output
    assert "~ sea" not in done.output


def test_what_is_saved_can_be_chosen(run):
    done = run("photo.png", "--save", "json,contact", "--out", "found/here")
    assert done.exit_code == 0, done.output
    assert written("found/here") == ["contact.png", "photo.json"]


def test_edges_are_on_for_photos_and_can_be_left_out(run):
    colors = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    Image.fromarray(colors.repeat(13, 0).repeat(13, 1)).save("patches.png")
    maps = {}
    for edges in ([], ["--edges", "on"], ["--edges", "off"]):
        done = run("patches.png", "--threshold", "0.3", "--save", "labels", *edges)
        assert done.exit_code == 0, done.output
        with Image.open("zeroseg-out/patches_labels.png") as labels:
            maps[" ".join(edges)] = np.array(labels)
    np.testing.assert_array_equal(maps[""], maps["--edges on"])
    assert (maps[""] != maps["--edges off"]).any()
    done = run("test://", "--edges", "on", "--headless")
    assert done.exit_code == 2 and "--edges: only for photos" in done.output


def test_the_legend_can_be_left_out(run):
    assert run("photo.png", "--no-legend", "--save", "overlay").exit_code == 0
    with Image.open("zeroseg-out/photo_overlay.png") as overlay:
        assert overlay.size == (80, 60)
    done = run("photo.png", "--figures")
    assert done.exit_code == 2 and "--figures: only for cameras, videos and streams" in done.output


def test_nothing_found_says_what_came_near(run):
    done = run("photo.png", "--threshold", "2")
    assert "no label scored 2.000 or more; the best was rose with 1.000" in done.output and done.exit_code == 0


def test_files_folders_globs_each_photo_once(run):
    Path("album").mkdir()
    for name in ("a.jpg", "b.JPG", "c.txt"):
        Image.new("RGB", (40, 40), "red").save(f"album/{name}", format="JPEG")
    done = run("photo.png", "album", "album/a*", "*.png", "--save", "json")
    assert done.exit_code == 0, done.output
    assert written() == ["a.json", "b.json", "photo.json"] and "3 photos" in done.output


def test_same_stem_gets_a_number(run):
    Path("album").mkdir()
    Image.new("RGB", (40, 40), "blue").save("album/photo.jpg")
    assert run("photo.png", "album", "--save", "json").exit_code == 0
    assert written() == ["photo-2.json", "photo.json"]
    assert json.loads(Path("zeroseg-out/photo-2.json").read_text())["image"] == "album/photo.jpg"


def test_bad_files_do_not_stop_the_others(run):
    Path("broken.jpg").write_bytes(b"nothing")
    done = run("broken.jpg", "photo.png", "missing.jpg", "none*.jpg")
    assert done.exit_code == 1
    assert "Error: broken.jpg: not a picture" in done.output
    assert "Error: missing.jpg: no such file" in done.output
    assert "Error: none*.jpg: no file matches this pattern" in done.output
    assert "4 inputs, 3 failed" in done.output
    assert written() == ["photo.json", "photo_labels.png", "photo_overlay.png"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "Error: album: no pictures in this folder"),
        (("notes.txt", "found/.x/readme"), "Error: album: no pictures in this folder"),
        (
            ("a.HEIC", "b.heic", "c.dng"),
            "Error: album: no pictures in this folder, but 1 .dng, 2 .heic (convert to JPEG first)",
        ),
        (
            ("2024/05/a.jpg", "2025/b.heic", ".thumbnails/c.jpg"),
            'Error: album: no pictures in this folder, but 2 folders with pictures (for all below: "album/**/*.jpg")',
        ),
        (("a.png",), ""),
        (
            ("a.png", "b.heic", "more/c.jpg"),
            "Note: album: also has 1 .heic (convert to JPEG first) and 1 folder with pictures "
            '(for all below: "album/**/*.jpg"), which are not read',
        ),
    ],
)
def test_a_folder_says_what_in_it_is_not_looked_at(run, files, said):
    Path("album").mkdir()
    for file in files:
        path = Path("album", file)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), "red").save(path, format="PNG")
    done = run("album")
    assert done.exit_code == (1 if said.startswith("Error") else 0), done.output
    assert [line for line in done.output.splitlines() if line.startswith(("Error", "Note"))] == [said] * bool(said)


def test_folders_of_results_are_not_named(run):
    for _ in range(2):
        done = run(".")
        assert done.exit_code == 0 and "Note" not in done.output


@pytest.mark.parametrize(
    ("photo", "lines"),
    [
        ("missing.jpg", ["Error: missing.jpg: no such file"]),  # before any model is loaded and any word looked up
        (
            "broken.jpg",
            [
                "~ rose: not in the model's vocabulary; its meaning is approximate, near tulip, daisy",
                "Error: broken.jpg: not a picture that Pillow can read; expected JPEG, PNG, WebP, TIFF, BMP or the "
                "like",
            ],
        ),
    ],
)
def test_a_run_without_a_result_says_only_why(run, photo, lines):
    Path("broken.jpg").write_bytes(b"nothing")
    done = run(photo)
    assert done.exit_code == 1 and done.output.splitlines() == lines


def test_inputs_are_never_overwritten(run):
    Path("photo_overlay.png").write_bytes(Path("photo.png").read_bytes())
    before = Path("photo_overlay.png").read_bytes()
    done = run("photo.png", "photo_overlay.png", "--out", ".")
    assert done.exit_code == 1 and "photo_overlay.png: is one of the photos and would be overwritten" in done.output
    assert Path("photo_overlay.png").read_bytes() == before


def test_second_run_on_a_folder_leaves_its_own_results_out(run):
    Path("album").mkdir()
    for name in ("photo.jpg", "photo.tif"):  # the second's results are called photo-2
        Image.new("RGB", (40, 40), "blue").save(f"album/{name}")
    arguments = ("album", "--out", "album", "--save", "overlay,labels,json,contact")
    assert run(*arguments).exit_code == 0
    first = written("album")
    assert len(first) == 2 + 2 * 3 + 1
    done = run(*arguments)
    assert done.exit_code == 0 and "2 photos" in done.output, done.output
    assert written("album") == first


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photo.json", b'{"shapes": [], "imagePath": "photo.png"}'),
        ("photo.json", b"[1, 2]"),
        ("photo.json", b"no JSON"),
        ("photo_overlay.png", None),
        ("photo_labels.png", None),
        ("contact.png", b""),
    ],
)
def test_a_file_that_zeroseg_did_not_write_is_kept(run, name, content):
    """An annotation tool's JSON, a mask drawn by hand: they have the names of results, and are not ours to lose."""
    Path("mine").mkdir()
    mine = Path("mine", name)
    mine.write_bytes(Path("photo.png").read_bytes() if content is None else content)
    before = mine.read_bytes()
    done = run("photo.png", "--out", "mine", "--save", "overlay,labels,json,contact")
    assert done.exit_code == 1
    assert done.output == f"Error: {mine}: was not written by zeroseg and would be overwritten; choose another --out\n"
    assert written("mine") == [name] and mine.read_bytes() == before


def test_a_picture_with_the_name_of_a_result_is_a_photo(run):
    Path("album").mkdir()
    for name in ("photo.jpg", "photo_overlay.png"):
        Image.new("RGB", (40, 40), "red").save(f"album/{name}")
    assert run("album", "--save", "json").exit_code == 0
    assert written() == ["photo.json", "photo_overlay.json"]


def test_results_are_replaced_by_a_second_run(run):
    assert run("photo.png", "--save", "overlay,labels,json,contact").exit_code == 0
    before = {name: Path("zeroseg-out", name).read_bytes() for name in written()}
    Image.new("RGB", (80, 60), "blue").save("photo.png")
    done = run("photo.png", "--save", "overlay,labels,json,contact")
    assert done.exit_code == 0, done.output
    assert list(before) == written()
    assert all(Path("zeroseg-out", name).read_bytes() != content for name, content in before.items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat,dog", ["cat", "dog"]),
        (" cat ; , polar bear、Cat", ["cat", "polar bear"]),
        ("@words.txt", ["cat", "dog", "c#"]),
    ],
)
def test_labels_as_text(text, expected):
    from zeroseg.commands.infer_run import parse_labels

    Path("words.txt").write_text("cat  # the house's\n\n# nothing\ndog\nCat\nc#\t#\n", encoding="utf-8")
    assert parse_labels(text) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_label_files_of_windows(encoding, run):
    from zeroseg.commands.infer_run import parse_labels

    mark = "\ufeff" if encoding == "utf-16-be" else ""
    Path("words.txt").write_bytes(f"{mark}Käse\r\ndog\r\n".encode(encoding))
    assert parse_labels("@words.txt") == ["Käse", "dog"]
    Path("words.txt").write_bytes("Käse\n".encode("latin-1"))
    done = run("photo.png", labels="@words.txt")
    assert "Error: --labels @words.txt: cannot be read (expected UTF-8 text with one label per line)\n" in done.output


@pytest.mark.parametrize(
    ("arguments", "labels", "message"),
    [
        (["photo.png"], ",", "no words in it"),
        (["photo.png"], "@missing.txt", "cannot be read"),
        (["photo.png"], "missing.npz", "no such label pack"),
        (["photo.png", "--save", "video"], "labels.npz", "expected one or more of overlay, labels, json, contact"),
        (["photo.png", "--alpha", "2"], "labels.npz", "2.0 is not in the range"),
        (["photo.png", "--backend", "torch"], "labels.npz", "backend torch reads .pt"),
        (["photo.png", "--out", "photo.png"], "labels.npz", "photo.png"),
        ([], "labels.npz", "Missing argument"),
    ],
)
def test_bad_options_end_in_one_line(run, arguments, labels, message):
    done = run(*arguments, labels=labels)
    assert done.exit_code in (1, 2) and message in done.output
    assert "Traceback" not in done.output and done.exception is None or isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "command",
    [
        ["infer", "photo.png", "--labels", "cat"],
        ["serve", "--labels", "cat"],
        ["eval", "."],
        ["annotate", ".", "-o", "found", "--labels", "cat"],
    ],
    ids=lambda command: command[0],
)
def test_a_threshold_is_finite(command, value):
    done = CliRunner().invoke(main, [*command, "--threshold", value])
    assert done.exit_code == 2 and f"'--threshold': expected a finite number, got {value}" in done.output


@pytest.mark.parametrize("command", ["infer", "serve", "annotate"])
def test_help_tells_the_scale_of_scores_and_the_bundled_models_threshold(command):
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).output.split())
    assert "scores lie between -1 and 1" in text
    own = BUNDLED / f"{DEFAULT_MODEL}.json"
    value = f", {json.loads(own.read_text())['threshold']:.3g} for {DEFAULT_MODEL}" if own.is_file() else ""
    assert f"[default: the model's own{value}]" in text


def test_missing_model_ends_in_one_line():
    done = CliRunner().invoke(infer, ["photo.png", "--labels", "labels.npz", "--model", "nowhere.onnx"])
    assert done.exit_code == 1 and done.output.strip() == "Error: nowhere.onnx: no such model file"


def test_doctor_tells_what_runs():
    done = CliRunner().invoke(doctor, [])
    assert done.exit_code == 0
    for part in ("python", "numpy", "c++", "nvidia", "onnxruntime", "mask_decode", "preprocess"):
        assert part in done.output
    report = json.loads(CliRunner().invoke(doctor, ["--json"]).output)
    assert report["back ends"]["onnxruntime"].startswith("yes")


def test_umbrella_lists_its_commands():
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0 and all(name in done.output for name in COMMANDS)
    assert "No such command 'paint'" in CliRunner().invoke(main, ["paint"]).output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name):
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert "Example" in done.output


@pytest.mark.skipif(sys.platform == "win32", reason="processor time of children is a POSIX call")
@pytest.mark.parametrize(
    "arguments",
    [
        ["import zeroseg"],
        ["from zeroseg.cli import infer; infer()", "--help"],
        ["from zeroseg.cli import main; main()", "--help"],
    ],
    ids=["import", "zeroseg-infer", "zeroseg"],
)
def test_front_door_opens_within_0_3_s(arguments):
    """Processor time of the whole process, best of three: a busy machine must not fail this."""
    assert min(processor_seconds([sys.executable, "-c", *arguments]) for _ in range(3)) < 0.3


def processor_seconds(command):
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
