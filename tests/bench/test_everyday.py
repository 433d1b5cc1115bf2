"""The sheet of everyday nouns: its tables fit together, and a tile shows the segment of its noun and nothing else."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zeroseg.bench import everyday
from zeroseg.errors import ZerosegError
from zeroseg.segment.segmentation import Segmentation


def test_tables_fit_together():
    photos = everyday.read_photos()
    nouns = everyday.read_nouns(photos)
    assert len({noun.noun for noun in nouns}) == len(nouns) == 40
    assert {noun.photo for noun in nouns} == set(photos)  # no photo is asked in vain
    for photo in photos.values():
        assert not set(photo.nouns) & set(everyday.ABSENT)
        assert len(set(photo.nouns)) == len(photo.nouns)
        assert all(photo) and photo.licence in ("Unsplash", "Pexels", "CC BY 4.0", "CC0", "public domain")


@pytest.mark.parametrize(
    "line, message",
    [
        ("cup\tdesk.jpg", "line 2: expected 3 fields between tabs, got 2"),
        ("cup\tdesk.jpg\tgreat", "cup: expected well, partly, no, nothing as judgement, got 'great'"),
        ("dog\tdesk.jpg\twell", "'dog' is not listed for the photo 'desk.jpg'"),
        ("cup\tlake.jpg\twell", "'cup' is not listed for the photo 'lake.jpg'"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, message):
    table = tmp_path / "sheet.tsv"
    table.write_text(f"# noun\tphoto\tjudgement\n{line}\n", encoding="utf-8")
    desk = everyday.Photo("desk.jpg", ("cup", "lamp"), "me", "CC0", "-", "p 1 (npm)", "desk.jpg")
    with pytest.raises(ZerosegError, match=message):
        everyday.read_nouns({"desk.jpg": desk}, table)


class LeftAndRight:
    """Finds the first label in the left quarter, the third in the right half, and nothing else."""

    def set_labels(self, labels):
        self.labels = labels
        return self

    def segment(self, path):
        image = np.asarray(Image.open(path).convert("RGB"))
        label_map = np.full(image.shape[:2], -1, np.int16)
        width = image.shape[1]
        label_map[:, : width // 4], label_map[:, width // 2 :] = 0, 2
        scores = np.full((2, len(self.labels)), 0.125, np.float32)
        scores[0, 0], scores[1, 2] = 0.75, 0.5
        count = len(self.labels)
        return Segmentation(
            image,
            label_map,
            np.ones(image.shape[:2], np.float32),
            self.labels,
            np.array([0, 2], np.int16),
            scores,
            0.3,
            "left and right",
            [""] * count,
            [[]] * count,
        )


def test_a_tile_shows_the_segment_of_its_noun_alone(tmp_path):
    Image.new("RGB", (400, 200), (100, 100, 100)).save(tmp_path / "desk.png")
    photo = everyday.Photo("desk.png", ("cup", "lamp"), "me", "CC0", "-", "p 1 (npm)", "desk.png")
    nouns = [everyday.Noun("lamp", "desk.png", "no"), everyday.Noun("cup", "desk.png", "well")]
    answers, wrong = everyday.ask(LeftAndRight(), tmp_path, {"desk.png": photo}, nouns)
    assert wrong == {"desk.png": [everyday.ABSENT[0]]}  # the third label
    lamp, cup = answers
    assert (lamp.area, lamp.score) == (0, 0.125)
    assert (cup.area, cup.score) == (0.25, 0.75)
    wide, high = everyday.SMALL_PX[0], everyday.SMALL_PX[0] // 2  # 400x200 made small
    pixels = [np.asarray(answer.tile)[:high, :wide] for answer in answers]
    assert (pixels[0] == 100).all()
    assert (pixels[1][:, : wide // 4 - 2] != 100).any(-1).all()
    assert (pixels[1][:, wide // 4 + 2 :] == 100).all()

    page = everyday.report("m", 0.3, {"desk.png": photo}, nouns, answers, wrong)
    assert "finds 1 well and 0 partly; 1 are not found. Each" in page.replace("\n", " ")
    assert "| cup | found well | 0.75 | 25% | desk.png |" in page
    assert f"asked 10 times and found 1 times: {everyday.ABSENT[0]} 1." in page


def test_missing_photos_are_named_before_anything_is_loaded(tmp_path):
    done = CliRunner().invoke(everyday.main, ["--photos", str(tmp_path)])
    assert done.exit_code == 1
    assert "34 photos of everyday_photos.tsv missing, such as Picture_0B_by_freespace.jpg" in done.output
