"""zeroseg annotate: the table equals the segmenter's results, and survives interruptions and killed processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.annotate.conftest import BAD, PHOTOS, halves
from tests.color_model import NAMES
from zeroseg.annotate import pool
from zeroseg.annotate.job import mask_file
from zeroseg.cli import main
from zeroseg.collection.listing import Photo
from zeroseg.masks import decode_rle
from zeroseg.segment.segmenter import Segmenter

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra annotate)")
ROOT = Path(__file__).resolve().parents[2]
CODE = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from zeroseg.cli import main; main()"


def call(*args):
    return CliRunner().invoke(main, ["annotate", *map(str, args)])


def rows(folder) -> list[dict]:
    files = sorted((Path(folder) / "parts").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


@pytest.fixture
def common(color_model, color_labels, collection, monkeypatch):
    monkeypatch.chdir(collection)
    return ["album", "more", "--model", color_model, "--labels", color_labels]


def test_table_is_what_the_segmenter_says(common, color_model, color_labels, collection):
    result = call(*common, "-o", "out", "--processes", 1, "--masks", "--part-size", 4)
    assert result.exit_code == 0, result.output
    table = rows("out")
    assert list(table[0]) == ["path", "height", "width", "label", "score", "area", "rle", "error"]
    by_photo = {}
    for row in table:
        by_photo.setdefault(row["path"], []).append(row)
    assert len(by_photo) == PHOTOS
    segmenter = Segmenter.load(color_model, threads=1).set_labels(color_labels)
    for i in range(14):
        path = f"album/{'x' if i % 2 else 'y'}/{i:02}.png"
        wanted = segmenter.segment(path)
        got = by_photo[path]
        assert [(r["label"], r["area"]) for r in got] == [(r.label, r.area_px) for r in wanted.found]
        assert {r["label"] for r in got} == {NAMES[i % 4], NAMES[(i + 1) % 4]}
        assert [r["score"] for r in got] == pytest.approx([r.score for r in wanted.found])
        for row in got:
            assert (row["height"], row["width"]) == wanted.label_map.shape and row["error"] is None
            mask = decode_rle({"size": [row["height"], row["width"]], "counts": row["rle"]})
            np.testing.assert_array_equal(mask > 0, wanted.label_map == NAMES.index(row["label"]))
        np.testing.assert_array_equal(np.asarray(Image.open(f"out/masks/{path}.png")), wanted.label_map + 1)
    for path in BAD:
        [row] = by_photo[path]
        assert row["error"] and row["label"] is row["height"] is row["rle"] is None
    listed = [line.split("\t") for line in Path("out/bad.txt").read_text().splitlines()]
    assert {name for name, _ in listed} == BAD and all(why for _, why in listed)
    assert "2 bad photos: out/bad.txt" in result.output


def test_rles_are_those_of_pycocotools(common):
    mask_tools = pytest.importorskip("pycocotools.mask")
    call(*common, "-o", "out", "--processes", 1)
    for row in rows("out"):
        if row["label"]:
            rle = {"size": [row["height"], row["width"]], "counts": row["rle"].encode()}
            assert mask_tools.area(rle) == row["area"]


def test_processes_shards_and_part_sizes_change_nothing(common):
    tables = []
    for name, options in {"a": ["--processes", 1], "b": ["--processes", 2, "--part-size", 3]}.items():
        result = call(*common, "-o", name, *options)
        assert result.exit_code == 0, result.output
        tables.append(rows(name))
    assert tables[0] == tables[1]
    assert len(list(Path("b/parts").iterdir())) == 8


def test_a_finished_job_labels_only_a_lost_part_again(common):
    assert call(*common, "-o", "out", "--processes", 1, "--part-size", 5).exit_code == 0
    before, parts = rows("out"), sorted(Path("out/parts").iterdir())
    parts[2].unlink()
    (Path("out/parts") / ".part-000002.parquet.x.partial").write_bytes(b"half")
    times = [part.stat().st_mtime_ns for part in parts if part.exists()]
    result = call(*common, "-o", "out", "--processes", 1)
    assert result.exit_code == 0 and "17 of them before; 5 in" in result.output
    assert rows("out") == before and sorted(Path("out/parts").iterdir()) == parts
    assert [part.stat().st_mtime_ns for i, part in enumerate(parts) if i != 2] == times
    assert "22 of them before\n" in call(*common, "-o", "out").output


def test_summary_counts_and_draws(common, collection):
    result = call(*common, "-o", "out", "--processes", 1, "--summary")
    table = rows("out")
    for name in NAMES:
        mine = [row for row in table if row["label"] == name]
        share = np.mean([row["area"] / (row["height"] * row["width"]) for row in mine])
        [line] = [line for line in result.output.splitlines() if line.startswith(name)]
        fields = line.replace(",", "").split()
        assert int(fields[1]) == len(mine) and int(fields[4]) == sum(row["area"] for row in mine)
        assert float(fields[2].rstrip("%")) == pytest.approx(100 * len(mine) / 20, abs=0.06)
        assert float(fields[3].rstrip("%")) == pytest.approx(100 * share, abs=0.06)
        assert float(fields[5]) == pytest.approx(np.mean([row["score"] for row in mine]), abs=6e-4)
    assert "22 photos, 0 without any label, 2 bad" in result.output
    sheet = np.asarray(Image.open("out/contact.png").convert("RGB"))
    assert sheet.shape == (4 * 320, 5 * 320, 3)
    again = call("-o", "out", "--summary")
    assert again.exit_code == 0 and _table(again) == _table(result)


def _table(result):
    """The output of --summary, from its heading on."""
    lines = result.stdout.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("label")) :]


def test_nothing_found_is_a_row_without_a_label(common):
    result = call(*common, "-o", "out", "--processes", 1, "--threshold", 1.5, "--summary")
    assert "22 photos, 20 without any label, 2 bad" in result.output and not Path("out/contact.png").exists()
    good = [row for row in rows("out") if row["error"] is None]
    assert len(good) == 20 and all(row["label"] is None and row["height"] for row in good)


def background(args, **options):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "annotate", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def many(collection, color_model, color_labels):
    """16 photos large enough to take a while: a job to interrupt."""
    for i in range(16):
        path = collection / "many" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        halves(i, (1200, 1000)).save(path, compress_level=0)
    return ["many", "--model", color_model, "--labels", color_labels, "--part-size", 1, "--processes", 2]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_resumed_job_equals_an_uninterrupted_one(many, collection, monkeypatch, sent):
    monkeypatch.chdir(collection)
    job = background([*many, "-o", "out"], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    parts = collection / "out" / "parts"
    wait_for(lambda: parts.is_dir() and len(list(parts.glob("*.parquet"))) >= 3)
    os.killpg(job.pid, sent) if sent == signal.SIGINT else job.send_signal(sent)
    out, err = job.communicate(timeout=30)
    assert job.returncode == 130 and "stopped; finished parts are kept" in err and "Traceback" not in err, err
    assert 3 <= len(rows("out")) // 2 < 16
    assert call(*many, "-o", "out").exit_code == 0 and call(*many, "-o", "whole").exit_code == 0
    assert rows("out") == rows("whole") and len(rows("out")) == 32


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the children in /proc")
def test_a_killed_process_costs_its_part_only(many, collection, monkeypatch):
    monkeypatch.chdir(collection)
    job = background([*many, "-o", "out"])
    parts = collection / "out" / "parts"
    wait_for(lambda: parts.is_dir() and len(list(parts.glob("*.parquet"))) >= 3)
    os.kill(children(job.pid)[-1], signal.SIGKILL)
    out, err = job.communicate(timeout=60)
    assert job.returncode == 0 and "a process was killed (SIGKILL, out of memory?)" in err, err
    assert call(*many, "-o", "whole").exit_code == 0
    assert rows("out") == rows("whole")


def children(pid: int) -> list[int]:
    """Processes whose parent is pid and that label (not Python's resource tracker)."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (
                int((path / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid
                and b"spawn_main" in (path / "cmdline").read_bytes()
            ):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_a_part_handed_to_a_process_that_has_just_died_is_done_by_another(common, monkeypatch):
    give, killed = pool._Worker.give, []

    def kill_first(worker, part, skip):
        if not killed:
            killed.append(part)
            worker.process.kill()
            worker.process.join()
        give(worker, part, skip)

    monkeypatch.setattr(pool._Worker, "give", kill_first)
    result = call(*common, "-o", "out", "--processes", 2, "--part-size", 4)
    assert result.exit_code == 0 and "was killed (SIGKILL" in result.output, result.output
    assert call(*common, "-o", "alone", "--processes", 1, "--part-size", 4).exit_code == 0
    assert rows("out") == rows("alone")


def test_no_two_photos_share_a_mask(tmp_path):
    names = ["a:b.png", "a%3Ab.png", "a%b.png", "a_b.png", "a/b.png", "a\\b.png", "a?b.png"]
    names += [os.fsdecode(b"a\xe9b.png"), "a\\xe9b.png", "a%E9b.png", "a\u00e9b.png"]
    files = [mask_file(tmp_path, Photo(f"album/{name}", "/photo")) for name in names]
    assert len({*files}) == len(names) and not any(set(file.name) & set(':\\?"') for file in files)
    assert [file.parent == tmp_path / "masks/album" for file in files] == [name != "a/b.png" for name in names]
    assert (
        files[0].name == "a%3Ab.png.png" and files[7].name == "a%E9b.png.png" and files[-1].name == "a\u00e9b.png.png"
    )


@pytest.mark.parametrize("sources", [("x", "../x"), ("x", "./x/../../x"), ("x/01.png", "../x")])
def test_sources_whose_masks_would_meet_are_refused(collection, sources, monkeypatch):
    for folder in ("x", "album/x"):
        Path(collection, folder).mkdir(exist_ok=True)
        halves(0).save(collection / folder / "01.png")
    monkeypatch.chdir(collection / "album")
    result = call(*sources, "-o", "out", "--labels", "red", "--masks")
    assert (
        result.exit_code == 1
        and "differ only in .. and /, so their masks would collide; give absolute paths" in result.output
    )


def test_a_photo_that_kills_its_process_twice_is_bad(common, tmp_path):
    """A labeller whose decoder dies on one photo: the others of its part are labelled nevertheless."""
    script = tmp_path / "deadly.py"
    script.write_text(
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        + """
import zeroseg.annotate.job as job
read = job.load_image
def deadly(data):
    image = read(data)
    if image.shape == (64, 96, 3):
        os._exit(7)
    return image
job.load_image = deadly
if __name__ == "__main__":
    from zeroseg.cli import main
    main()
"""
    )
    for i in range(14):  # one deadly photo
        if i % 3 == 1 and i != 4:
            Path(f"album/{'x' if i % 2 else 'y'}/{i:02}.png").unlink()
    done = subprocess.run(
        [sys.executable, script, "annotate", *map(str, common), "-o", "out", "--processes", "2", "--part-size", "6"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    bad = {row["path"]: row["error"] for row in rows("out") if row["error"]}
    assert bad.keys() == BAD | {"album/y/04.png"} and bad["album/y/04.png"].endswith(
        "ended (exit code 7); this happened twice"
    )
    assert len({row["path"] for row in rows("out")}) == PHOTOS - 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "x"], "Missing argument 'PHOTOS...'"),
        (["album", "-o", "x"], "Missing option '--labels'"),
        (["-o", "x", "--summary"], "has no labelling results yet"),
        (["nowhere", "-o", "x", "--labels", "red"], "nowhere: no such file or folder"),
        (["album", "-o", "x", "--labels", "none.txt"], "none.txt: No such file"),
        (["album", "-o", "x", "--labels", "red", "--model", "none.onnx"], "none.onnx"),
        (
            ["album", "-o", "x", "--labels", "red", "--ray", "auto", "--processes", "2"],
            "--processes: only for one machine",
        ),
    ],
)
def test_bad_input_is_one_line(collection, monkeypatch, args, message):
    monkeypatch.chdir(collection)
    result = call(*args)
    assert result.exit_code in (1, 2) and message in result.output and "Traceback" not in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ") and not list(Path("x").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("album", "album"),
        ("album/", "./album"),
        ("more/pack.tar", "more"),
        ("album/x/01.png", "album/x"),
        ("link", "album"),
        ("album", "link"),
        ("out/masks/album", "out"),
        ("out/parts", "out"),
    ],
)
def test_results_never_go_among_the_photos(common, source, out):
    Path("link").symlink_to("album")
    for folder in ("out/masks/album", "out/parts"):
        Path(folder).mkdir(parents=True)
        halves(0).save(Path(folder, "0.png"))
    before = sorted(Path().rglob("*"))
    result = call(source, *common[2:], "-o", out, "--masks")
    assert result.exit_code == 1 and f"contains the photos to label ({source}); choose another -o" in result.output
    assert before == sorted(Path().rglob("*"))


@pytest.mark.parametrize(("source", "out"), [("album", "album/found"), ("album", ".")])
def test_results_go_below_the_photos_or_above_them(common, source, out):
    assert call(source, *common[2:], "-o", out, "--processes", 1).exit_code == 0
    assert len({row["path"] for row in rows(out)}) == 15


def test_another_job_is_not_mixed_in(common, collection):
    assert call(*common, "-o", "out", "--processes", 1).exit_code == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    for change, what in {
        "--threshold=0.9": "another threshold",
        "--masks": "another choice of --masks",
        "--labels=red,blue": "other labels",
    }.items():
        result = call(*common, change, "-o", "out")
        assert result.exit_code == 1 and f"was begun with {what}" in result.output
    assert "was begun with" in call("more", *common[2:], "-o", "out").output
    assert before == {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
