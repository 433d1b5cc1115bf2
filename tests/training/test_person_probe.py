"""The person probe: where faces put its examples, what it learns from them, how a reading uses it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.training import person_probe
from zeroseg.training.conse import Probe, read_logits
from zeroseg.training.person_probe import face_places, find_faces, fit_probe, load_cascade
from zeroseg.training.recipes import ConseConfig

CLASSES = 40  # fewer than the first class of clothes, so that no photo counts as clothed


def photo(rng, boxes, grid=(10, 10)):
    """Noise, and on persons a strong class 3."""
    logits = rng.normal(size=(*grid, CLASSES)).astype(np.float32)
    logits[face_places(boxes, grid)] += 6 * np.eye(CLASSES, dtype=np.float32)[3]
    return boxes, torch.from_numpy(logits)


@pytest.fixture(scope="module")
def probe():
    rng = np.random.default_rng(0)
    faces = np.array([[0.4, 0.2, 0.2, 0.2]])
    return fit_probe([photo(rng, faces if i % 2 else np.zeros((0, 4))) for i in range(60)])


def test_a_face_marks_itself_and_the_chest_below():
    marked = face_places(np.array([[0.4, 0.2, 0.2, 0.2]]), (10, 10))
    expected = np.zeros((10, 10), bool)
    expected[2:4, 4:6] = True  # the face: 0.2 to 0.42 down
    expected[4:9, 3:7] = True  # shoulders and chest: below it, 0.95 widths to both sides, to 3.6 heights down
    assert np.array_equal(marked, expected)


def test_no_face_marks_nothing():
    assert not face_places(np.zeros((0, 4)), (3, 5)).any()


def test_the_probe_finds_what_its_examples_had_in_common(probe):
    boxes, logits = photo(np.random.default_rng(1), np.array([[0.1, 0.1, 0.3, 0.15]]))
    person = face_places(boxes, (10, 10))
    says = probe(logits).numpy()
    assert says.shape == (10, 10) and says[person].min() > says[~person].max()
    assert says[person].mean() > 5 * says[~person].mean()


def test_the_probe_is_the_same_every_time(probe):
    rng = np.random.default_rng(0)
    faces = np.array([[0.4, 0.2, 0.2, 0.2]])
    again = fit_probe([photo(rng, faces if i % 2 else np.zeros((0, 4))) for i in range(60)])
    assert torch.equal(again.weight, probe.weight) and torch.equal(again.bias, probe.bias)


def test_photos_without_faces_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ZerosegError, match="expected 50 patches each with and without persons, got 0 and 120"):
        fit_probe([photo(rng, np.zeros((0, 4))) for _ in range(10)])


def test_clothed_photos_without_a_face_are_no_examples():
    logits = torch.zeros(5, 5, 1000)
    logits[2, 2, 399] = 20.0  # a gown
    with pytest.raises(ZerosegError, match="got 0 and 0"):
        fit_probe([(np.zeros((0, 4)), logits)])


def test_a_reading_mixes_probe_and_clothes():
    torch.manual_seed(0)
    logits, vectors = torch.randn(1, 2, 2, 6), torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    worn = torch.nn.functional.normalize(torch.randn(4), dim=0)
    probe = Probe(torch.randn(6), torch.tensor(0.3))
    config = ConseConfig(worn_gain=1.5, worn_classes=(1, 5), probe_share=0.25)
    got = read_logits(logits, vectors, config, worn, probe)
    plain = read_logits(logits, vectors, replace(config, worn_gain=0.0))
    mean = logits.mean((1, 2))[0]
    for y in range(2):
        for x in range(2):
            clothes = (logits[0, y, x] + mean).softmax(0)[[1, 5]].sum()
            person = 1 / (1 + torch.exp(-(logits[0, y, x] @ probe.weight + 0.3)))
            share = min(1.0, 1.5 * float(0.75 * clothes + 0.25 * person))
            torch.testing.assert_close(got[0, y, x], (1 - share) * plain[0, y, x] + share * worn)


def test_a_probe_survives_the_disk(probe, tmp_path):
    probe.save(tmp_path / "probe.npz")
    loaded = Probe.load(tmp_path / "probe.npz", CLASSES)
    assert torch.equal(loaded.weight, probe.weight) and torch.equal(loaded.bias, probe.bias)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path, probe: None,
        lambda path, probe: path.write_bytes(b"no archive"),
        lambda path, probe: Probe(probe.weight[:-1], probe.bias).save(path),
        lambda path, probe: Probe(probe.weight * torch.nan, probe.bias).save(path),
    ],
)
def test_a_wrong_probe_file_is_one_clear_line(break_it, probe, tmp_path):
    path = tmp_path / "probe.npz"
    break_it(path, probe)
    with pytest.raises(ZerosegError, match="probe: .*probe.npz") as error:
        Probe.load(path, CLASSES)
    assert "\n" not in str(error.value)


def test_faces_are_found_in_a_portrait():
    try:
        cascade = load_cascade()
    except UnavailableError as error:
        pytest.skip(str(error))
    from PIL import Image

    boxes = find_faces(cascade, Image.open(Path(__file__).parents[2] / "docs/photos/astronaut.jpg"))
    assert len(boxes) >= 1
    left, top, width, height = boxes[np.argmax(boxes[:, 2])]
    assert 0.3 < left + width / 2 < 0.6 and 0.1 < top + height / 2 < 0.4


def test_the_command_fits_what_it_sees(monkeypatch, tmp_path, photo_folder, label_folder, teacher_config, labels):
    """From end to end with a stand-in for the cascade, which OpenCV 5 lacks: a face in every bright photo."""
    from PIL import Image

    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.photos import find_photos
    from zeroseg.training.recipes import RECIPES
    from zeroseg.training.teacher import to_tensor

    class Cascade:
        def detectMultiScale(self, grey, *_, **__):
            height, width = grey.shape
            return [(width // 4, height // 8, width // 3, height // 3)] if grey.mean() > 130 else ()

    recipe = replace(RECIPES["dense"], teacher=replace(teacher_config, conse=ConseConfig()))
    monkeypatch.setitem(person_probe.RECIPES, "tiny", recipe)
    monkeypatch.setattr(person_probe, "load_cascade", Cascade)
    done = CliRunner().invoke(
        person_probe.main,
        [
            "--photos",
            str(photo_folder),
            "--labels",
            str(label_folder),
            "--teacher-weights",
            teacher_config.weights,
            "--recipe",
            "tiny",
            "-o",
            str(tmp_path / "probe.npz"),
        ],
    )
    assert done.exit_code == 0, done.output
    photos, teacher, examples = find_photos(photo_folder, None), build_teacher(recipe.teacher, labels), []
    for row in range(len(photos)):
        photo = photos.read(row)
        height, width = teacher.dense_size(photo.size)
        with torch.no_grad():
            logits = teacher.logits(to_tensor([photo.resize((width, height), Image.Resampling.BILINEAR)]))[0]
        examples.append((find_faces(Cascade(), photo), logits))
    seen = sum(len(boxes) for boxes, _ in examples)
    assert 5 < seen < len(photos) - 5 and f"fitted on {seen} photos with faces of 24\n" in done.output
    wanted, got = fit_probe(examples), Probe.load(tmp_path / "probe.npz", 10)
    torch.testing.assert_close((got.weight, got.bias), (wanted.weight, wanted.bias))


def test_without_opencv_4_the_command_says_what_to_install(monkeypatch, tmp_path):
    def missing():
        raise UnavailableError("finding faces needs OpenCV 4: pip install 'opencv-python-headless<5'")

    monkeypatch.setattr(person_probe, "load_cascade", missing)
    arguments = ["--photos", str(tmp_path), "--labels", str(tmp_path), "-o", str(tmp_path / "x.npz")]
    result = CliRunner().invoke(person_probe.main, arguments)
    assert result.exit_code == 1 and "opencv-python-headless<5" in result.output and "Traceback" not in result.output
