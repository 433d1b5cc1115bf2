"""Legends are written with letters, not with boxes, whatever script a label is in."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from zeroseg import drawing, lettering
from zeroseg.live.picture import _box

SIZE = 20
BOX = "\uffff"  # in no font


def drawn(text, font):
    picture = Image.new("L", (SIZE * 2, SIZE * 2))
    ImageDraw.Draw(picture).text((5, 5), text, font=font, fill=255)
    return np.asarray(picture)


@pytest.fixture
def without_fonts(monkeypatch):
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())


def test_ascii_is_written_in_pillows_own_font():
    text, font = lettering.lettering("cat  0.83", SIZE)
    assert text == "cat  0.83" and font.getname() == ImageFont.load_default(SIZE).getname()


@pytest.mark.parametrize("label", ["naïve café", "кошка", "γάτα"])
def test_other_letters_come_from_a_font_that_has_them(label):
    try:
        ImageFont.truetype("DejaVuSans.ttf", SIZE)
    except OSError:
        pytest.skip("DejaVu Sans is not on this machine")
    text, font = lettering.lettering(label, SIZE)
    assert text == label
    for letter in set(label.replace(" ", "")):
        assert (drawn(letter, font) != drawn(BOX, font)).any(), letter


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("~naïve café  0.50", "~naive cafe  0.50"),
        ("ﬁve", "five"),
        ("кот", r"\u043a\u043e\u0442"),
        ("猫 cat", r"\u732b cat"),
        ("🐱", r"\U0001f431"),
    ],
)
def test_without_a_font_for_them_letters_are_spelled_out(without_fonts, label, expected):
    text, font = lettering.lettering(label, SIZE)
    assert text == expected
    for letter in set(text.replace(" ", "")):
        assert (drawn(letter, font) != drawn(BOX, font)).any(), letter


def test_a_font_that_lacks_one_letter_is_passed_over(monkeypatch):
    """Any machine can test it with the one font that Pillow brings, here in the place of a system's."""
    own = ImageFont.load_default
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ("some.ttf",))
    monkeypatch.setattr(lettering, "_font", lambda name, size: own(size))
    assert lettering.lettering("café", SIZE)[0] == "cafe"


def test_legends_are_written_so(without_fonts):
    photo = np.zeros((40, 400, 3), np.uint8)
    sheets = [np.asarray(drawing.with_legend(photo, [((9, 9, 9), label)])) for label in ("naïve", "naive")]
    np.testing.assert_array_equal(*sheets)
    np.testing.assert_array_equal(*(_box((((9, 9, 9), label),), SIZE) for label in ("naïve", "naive")))
