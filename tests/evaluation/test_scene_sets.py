"""The sets without a background, on folders drawn here: which raw value is which class, and what is not counted."""

import numpy as np
import pytest

from tests.evaluation.test_folders import write_pair
from zeroseg.errors import ZerosegError
from zeroseg.evaluation import scene_names, scene_sets
from zeroseg.evaluation.label_sets import label_set, label_set_from_file


def voc_like(root, year, masks, lists, ids):
    write_pair(root / year / "JPEGImages/x.jpg", root / year / masks / "x.png", [ids])
    (root / year / "ImageSets" / lists).mkdir(parents=True)
    (root / year / "ImageSets" / lists / "val.txt").write_text("x\n")


def test_voc20_and_context59_leave_the_background_out(tmp_path):
    voc_like(tmp_path, "VOC2012", "SegmentationClass", "Segmentation", [0, 1, 20, 255])
    voc_like(tmp_path, "VOC2010", "SegmentationClassContext", "SegmentationContext", [0, 1, 59, 255])
    for reader, count, first, last in (
        (scene_sets.voc20, 20, "aeroplane", "tv monitor"),
        (scene_sets.context59, 59, "aeroplane", "wood"),
    ):
        folder = reader(tmp_path)
        assert (len(folder.classes), folder.background) == (count, None)
        assert (folder.classes[0], folder.classes[-1]) == (first, last)
        assert folder.load(0)[1].tolist() == [[255, 0, count - 1, 255]]
        assert label_set(folder).names == folder.official


@pytest.mark.parametrize(
    ("suffix", "raw"), [(".png", [0, 89, 91, 181, 255]), ("_labelTrainIds.png", [0, 79, 80, 170, 255])]
)
def test_coco_stuff_knows_things_and_stuff(tmp_path, suffix, raw):
    write_pair(tmp_path / "images/val2017/9.jpg", tmp_path / f"annotations/val2017/9{suffix}", [raw])
    folder = scene_sets.coco_stuff(tmp_path)
    assert folder.load(0)[1].tolist() == [[0, 79, 80, 170, 255]] and folder.background is None
    assert [folder.official[i] for i in (0, 79, 80, 170)] == ["person", "toothbrush", "banner", "wood"]
    assert folder.classes[folder.official.index("wall-brick")] == "brick wall"


def test_a_category_that_coco_never_used_is_refused(tmp_path):
    write_pair(tmp_path / "images/val2017/9.jpg", tmp_path / "annotations/val2017/9.png", [[0, 11]])  # 12 - 1
    with pytest.raises(ZerosegError, match=r"expected ids of the class list or 255, got \[11\]"):
        scene_sets.coco_stuff(tmp_path).load(0)


@pytest.mark.parametrize("start", ["ADEChallengeData2016", "."])
def test_ade20k_counts_from_one(tmp_path, start):
    root = tmp_path / "ADEChallengeData2016"
    write_pair(root / "images/validation/ADE_val_1.jpg", root / "annotations/validation/ADE_val_1.png", [[0, 1, 150]])
    folder = scene_sets.ade20k(tmp_path / start)
    assert folder.load(0)[1].tolist() == [[255, 0, 149]] and len(folder.classes) == 150
    assert (folder.official[0], folder.official[149]) == ("wall", "flag")


@pytest.mark.parametrize(("kind", "raw"), [("labelIds", [0, 7, 33, 24, 255]), ("labelTrainIds", [255, 0, 18, 11, 255])])
def test_cityscapes_ids(tmp_path, kind, raw):
    for city in ("bonn", "ulm"):
        write_pair(
            tmp_path / f"leftImg8bit/val/{city}/{city}_0_1_leftImg8bit.png",
            tmp_path / f"gtFine/val/{city}/{city}_0_1_gtFine_{kind}.png",
            [raw],
        )
    folder = scene_sets.cityscapes(tmp_path)
    assert len(folder) == 2 and [path.parent.name for path in folder.photos] == ["bonn", "ulm"]
    assert folder.load(1)[1].tolist() == [[255, 0, 18, 11, 255]]
    assert (folder.official[11], folder.official[18]) == ("person", "bicycle")


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (
            scene_sets.ade20k,
            "expected the masks at annotations/validation or ADEChallengeData2016/annotations/validation",
        ),
        (scene_sets.cityscapes, "leftImg8bit/val: expected a folder, found nothing"),
        (scene_sets.coco_stuff, "expected the photos at images/val2017 or val2017"),
        (scene_sets.voc20, "expected the masks at SegmentationClass"),
    ],
)
def test_a_folder_of_another_kind_is_one_line(tmp_path, reader, message):
    with pytest.raises(ZerosegError, match=message) as caught:
        reader(tmp_path)
    assert "\n" not in str(caught.value)


def test_cityscapes_without_masks_or_photos(tmp_path):
    (tmp_path / "leftImg8bit/val").mkdir(parents=True)
    (tmp_path / "gtFine/val/bonn").mkdir(parents=True)
    with pytest.raises(ZerosegError, match="_gtFine_labelIds.png or .*, found none"):
        scene_sets.cityscapes(tmp_path)
    (tmp_path / "gtFine/val/bonn/b_gtFine_labelIds.png").write_bytes(b"")
    with pytest.raises(ZerosegError, match="no photo for 1 of 1 masks, for example b_leftImg8bit.png"):
        scene_sets.cityscapes(tmp_path)


def test_zero_left_out_moves_the_others_down():
    table = np.full(256, -1, np.int16)
    table[:4], table[255] = [0, 1, 2, 3], 255
    reduced = scene_sets.zero_left_out(table)
    assert reduced[[0, 1, 2, 3, 255, 9]].tolist() == [255, 0, 1, 2, 255, -1]


def test_names_are_all_there_and_differ():
    for names, count in (
        (scene_names.COCO_STUFF_OFFICIAL, 171),
        (scene_names.COCO_STUFF_PLAIN, 171),
        (scene_names.ADE20K_OFFICIAL, 150),
        (scene_names.ADE20K_PLAIN, 150),
        (scene_names.CITYSCAPES_OFFICIAL, 19),
        (scene_names.CITYSCAPES_PLAIN, 19),
    ):
        assert len(names) == len({*names}) == count


def test_words_of_a_file_may_be_several_for_a_class(tmp_path):
    write_pair(tmp_path / "images/a.png", tmp_path / "masks/a.png", [[0, 1, 2]])
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    from zeroseg.evaluation.folders import plain_folder

    folder = plain_folder(tmp_path)
    words = tmp_path / "words.txt"
    words.write_text("sky, wall\ncat,kitten\n\ndog\n")
    labels = label_set_from_file(folder, words)
    assert labels.names == ("sky", "wall", "cat", "kitten", "dog") and labels.class_ids.tolist() == [0, 0, 1, 1, 2]
    assert labels.answers(np.array([[0, 3, 4, -1]]), folder).tolist() == [[0, 1, 2, 0]]
    for text, message in (
        ("sky\ncat\n", "expected 3 lines, one for each class of .*, got 2"),
        ("sky\ncat\ncat\n", "'cat' occurs twice"),
        ("sky\n,\ndog", "line 2 has no word"),
    ):
        words.write_text(text)
        with pytest.raises(ZerosegError, match=message):
            label_set_from_file(folder, words)
