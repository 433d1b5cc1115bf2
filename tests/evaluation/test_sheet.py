"""The picture sheet: VOC's colours, the choice of photos, what is drawn where."""

import numpy as np
import pytest

from zeroseg.evaluation import class_names, sheet, standard_sets
from zeroseg.evaluation.folders import Pairs


def test_palette_is_vocs():
    published = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 12: (64, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
    palette = sheet.class_palette(21)
    assert {i: tuple(palette[i].tolist()) for i in published} == published


def test_photos_are_spread_over_the_folder():
    assert sheet.spread(239, 3) == {0, 119, 238} and sheet.spread(2, 5) == {0, 1} and sheet.spread(9, 1) == {0}


def test_row_shows_photo_mask_and_answer():
    folder = standard_sets._with_background("x", Pairs((), ()), class_names.VOC_PLAIN, class_names.VOC_OFFICIAL)
    folder = type(folder)(**{**folder.__dict__, "photos": tuple(map(standard_sets.Path, ["a.jpg", "b.jpg"]))})
    made = sheet.Sheet(folder, {1})
    photo = np.full((100, 200, 3), 200, np.uint8)
    truth, answer = np.full((100, 200), 8, np.uint8), np.full((100, 200), 12, np.int16)
    answer[:50], truth[:, 150:] = 21, 255
    for index in (0, 1):
        made.add(index, photo, truth, answer)
    picture = np.asarray(made.draw())
    assert len(made.rows) == 1
    step, y = sheet.CELL_PX + sheet.MARGIN_PX, sheet.LEGEND_PX + 100
    at = [picture[y, sheet.MARGIN_PX + c * step + 10].astype(int) for c in range(3)]
    blend = [200 * (1 - sheet.OPACITY) + sheet.OPACITY * np.array(colour) for colour in ((64, 0, 0), (64, 0, 128))]
    assert at[0].tolist() == [200] * 3
    assert np.abs(at[1] - blend[0]).max() <= 1 and np.abs(at[2] - blend[1]).max() <= 1
    no_class = picture[sheet.LEGEND_PX + 10, sheet.MARGIN_PX + 2 * step + 10]
    assert np.abs(no_class - (200 * (1 - sheet.OPACITY) + sheet.OPACITY * np.array(sheet.NO_CLASS))).max() <= 1


def test_empty_sheet_is_refused():
    folder = standard_sets._with_background("x", Pairs((), ()), class_names.VOC_PLAIN, class_names.VOC_OFFICIAL)
    with pytest.raises(ValueError, match="at least one photo"):
        sheet.Sheet(folder, set()).draw()
