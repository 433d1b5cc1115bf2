"""Folder readers on small folders drawn here: pairs, id tables, and every complaint a user can meet."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.evaluation import class_names, standard_sets
from zeroseg.evaluation.folders import plain_folder


def write_pair(photo, mask, ids, photo_size=None, mode=None):
    photo.parent.mkdir(parents=True, exist_ok=True)
    mask.parent.mkdir(parents=True, exist_ok=True)
    ids = np.asarray(ids)
    height, width = photo_size or ids.shape
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(photo)
    image = Image.fromarray(ids.astype(np.uint16 if ids.max() > 255 or mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
    elif mode == "RGB":
        image = image.convert(mode)
    image.save(mask)


def plain(tmp_path, classes="background\ncat\ndog\n", ids=((0, 1, 2), (2, 255, 0)), **keywords):
    (tmp_path / "classes.txt").write_text(classes)
    write_pair(tmp_path / "images/a.JPG", tmp_path / "masks/a.png", ids, **keywords)
    return tmp_path


def test_plain_folder_reads_ids_as_they_are(tmp_path):
    folder = plain_folder(plain(tmp_path))
    photo, mask = folder.load(0)
    assert (folder.classes, folder.background, len(folder)) == (("background", "cat", "dog"), 0, 1)
    assert mask.tolist() == [[0, 1, 2], [2, 255, 0]] and mask.dtype == np.uint8
    assert photo.shape == (2, 3, 3) and photo.dtype == np.uint8 and abs(int(photo[0, 0, 0]) - 90) <= 1


def test_list_file_sets_choice_and_order(tmp_path):
    plain(tmp_path)
    for name in "bc":
        write_pair(tmp_path / f"images/{name}.png", tmp_path / f"masks/{name}.png", [[1, 1]])
    assert [p.stem for p in plain_folder(tmp_path).photos] == ["a", "b", "c"]
    (tmp_path / "list.txt").write_text("c\n\na\n")
    assert [p.stem for p in plain_folder(tmp_path).masks] == ["c", "a"]
    other = tmp_path / "other.txt"
    other.write_text("b\n")
    assert [p.stem for p in plain_folder(tmp_path, list_file=other).photos] == ["b"]


def test_yaml_ids_become_consecutive_and_unlabeled_is_not_counted(tmp_path):
    plain(tmp_path, ids=[[0, 3, 7, 255]])
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.yaml").write_text(
        "# c\npath: x\nclasses:\n  0: unlabeled\n  3: cat\n  7: 'wine glass'\nmore: 1\n"
    )
    folder = plain_folder(tmp_path)
    assert folder.classes == ("cat", "wine glass") and folder.background is None
    assert folder.load(0)[1].tolist() == [[255, 0, 1, 255]]


def test_names_in_a_list_may_have_spaces(tmp_path):
    plain(tmp_path)
    write_pair(tmp_path / "images/my cat.png", tmp_path / "masks/my cat.png", [[1, 1]])
    (tmp_path / "list.txt").write_text("my cat\na 1\nmy cat.png\na.JPG x\n")
    assert [p.stem for p in plain_folder(tmp_path).photos] == ["my cat", "a", "my cat", "a"]


def test_photos_without_mask_are_counted_and_capital_suffixes_read(tmp_path):
    plain(tmp_path)
    for name in ("b", "c"):
        write_pair(tmp_path / f"images/{name}.png", tmp_path / f"masks/{name}.png", [[1, 1]])
    (tmp_path / "masks/b.png").rename(tmp_path / "masks/b.PNG")
    (tmp_path / "masks/c.png").unlink()
    (tmp_path / "masks/._a.png").write_bytes(b"")
    folder = plain_folder(tmp_path)
    assert [p.name for p in folder.masks] == ["a.png", "b.PNG"]
    assert [p.name for p in folder.without_mask] == ["c.png"]
    (tmp_path / "list.txt").write_text("a\n")
    assert plain_folder(tmp_path).without_mask == ()  # a list says what is wanted


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_masks_of_few_bits_hold_the_ids_of_their_file(tmp_path, bits):
    """The file is written here, bit by bit, as the PNG specification has it."""
    plain(tmp_path, classes="\n".join(f"class {i}" for i in range(16)), ids=[[0] * 8])
    ids = [i % min(16, 2**bits) for i in (0, 1, 2, 3, 9, 14, 15, 1)]
    row = int("".join(f"{i:0{bits}b}" for i in ids), 2).to_bytes(bits, "big")
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0), b"IDAT" + zlib.compress(b"\0" + row), b"IEND")
    data = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    (tmp_path / "masks/a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert plain_folder(tmp_path).load(0)[1].tolist() == [ids]


@pytest.mark.parametrize("mode", ["P", "L", "I;16"])
def test_mask_modes_read_the_same(tmp_path, mode):
    assert plain_folder(plain(tmp_path, mode=mode)).load(0)[1].tolist() == [[0, 1, 2], [2, 255, 0]]


@pytest.mark.parametrize("ids,first", [(((0, 1, 2), (2, 255, 0)), 56), (((0, 1), (1, 0), (2, 0)), 0)])
def test_photo_is_turned_by_exif_unless_the_mask_is_not(tmp_path, ids, first):
    plain(tmp_path, ids=ids)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    (tmp_path / "images/a.JPG").unlink()
    pixels = np.arange(6, dtype=np.uint8).reshape(3, 2)[..., None].repeat(3, 2) * 14
    Image.fromarray(pixels).save(tmp_path / "images/a.png", exif=exif)
    photo, mask = plain_folder(tmp_path).load(0)
    assert photo.shape[:2] == mask.shape and photo[0, 0].tolist() == [first] * 3


@pytest.mark.parametrize(
    "harm,message",
    [
        (lambda d: write_pair(d / "images/a.JPG", d / "masks/a.png", [[0, 1]], photo_size=(4, 4)), "mask of 4x4"),
        (lambda d: write_pair(d / "images/a.JPG", d / "masks/a.png", [[0, 9]]), r"255, got \[9\]"),
        (lambda d: write_pair(d / "images/a.JPG", d / "masks/a.png", [[0, 900]]), r"255, got \[900\]"),
        (lambda d: write_pair(d / "images/a.JPG", d / "masks/a.png", [[0, 1]], mode="RGB"), "one channel of class ids"),
        (lambda d: (d / "masks/a.png").write_bytes(b"no"), "a.png: expected a readable image"),
        (lambda d: (d / "images/a.JPG").unlink(), "no photo for 1 of 1 names, for example a"),
        (lambda d: (d / "masks/a.png").unlink(), "at least one photo"),
        (lambda d: write_pair(d / "images/a.png", d / "masks/a.png", [[0, 1]]), "a.JPG and a.png have the same name"),
        (lambda d: write_pair(d / "images/a.JPG", d / "masks/a.PNG", [[0, 1]]), "a.PNG and a.png have the same name"),
        (lambda d: (d / "masks/a.png").write_bytes((d / "masks/a.png").read_bytes()[:50]), "readable image"),
        (lambda d: (d / "list.txt").write_text("a b\nz\n"), "no photo for 1 of 2 names, for example z"),
        (lambda d: (d / "classes.txt").unlink(), "a class list at classes.txt or classes.yaml"),
        (lambda d: (d / "classes.txt").write_text("\n"), "class names with ids 0..254"),
        (lambda d: (d / "classes.txt").write_bytes(b"\xff\xfe\xff"), "expected a text file"),
    ],
)
def test_bad_folder_is_one_clear_line(tmp_path, harm, message):
    harm(plain(tmp_path))
    with pytest.raises(ZerosegError, match=message) as caught:
        plain_folder(tmp_path).load(0)
    assert "\n" not in str(caught.value)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ZerosegError, match="nowhere: expected a folder, found nothing"):
        plain_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("start", ["VOCdevkit/VOC2012", "VOCdevkit", "."])
def test_voc_layout(tmp_path, start):
    root = tmp_path / "VOCdevkit/VOC2012"
    for name in ("2007_1", "2007_2"):
        write_pair(root / f"JPEGImages/{name}.jpg", root / f"SegmentationClass/{name}.png", [[0, 20, 255]], mode="P")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_2\n")
    folder = standard_sets.voc(tmp_path / start)
    assert [p.stem for p in folder.photos] == ["2007_2"] and len(folder.classes) == 21
    assert folder.load(0)[1].tolist() == [[0, 20, 255]]
    assert (folder.classes[20], folder.official[20]) == ("tv monitor", "monitor")


def test_context_layout(tmp_path):
    root = tmp_path / "VOC2010"
    write_pair(root / "JPEGImages/x.jpg", root / "SegmentationClassContext/x.png", [[0, 1, 59]])
    (root / "ImageSets/SegmentationContext").mkdir(parents=True)
    (root / "ImageSets/SegmentationContext/val.txt").write_text("x\n")
    folder = standard_sets.context(tmp_path)
    assert len(folder.classes) == 60 and folder.classes[59] == "wood"
    assert (folder.classes[1], folder.official[1]) == ("aeroplane", "airplane")
    assert folder.load(0)[1].tolist() == [[0, 1, 59]]


@pytest.mark.parametrize(
    "suffix,raw",
    [(".png", [0, 89, 91, 181, 255, 12]), ("_labelTrainIds.png", [0, 79, 80, 170, 255, 11]),
     ("_instanceTrainIds.png", [1, 80, 0, 0, 0, 12])],
)  # fmt: skip
def test_coco_object_maps_things_and_folds_stuff(tmp_path, suffix, raw):
    write_pair(tmp_path / "images/val2017/9.jpg", tmp_path / f"annotations/val2017/9{suffix}", [raw])
    folder = standard_sets.coco_object(tmp_path)
    ids = folder.load(0)[1][0].tolist()
    assert ids == [1, 80, 0, 0, 0, 12]
    assert [folder.classes[i] for i in ids] == ["person", "toothbrush", *["background"] * 3, "stop sign"]


def test_coco_stuff_table_against_the_category_list():
    table = standard_sets.coco_stuff_table()
    assert sorted(table[table > 0]) == list(range(1, 81))
    by_category = {1: "person", 13: "stop sign", 18: "dog", 44: "bottle", 67: "dining table", 90: "toothbrush"}
    assert all(("background", *class_names.COCO_THINGS)[table[c - 1]] == name for c, name in by_category.items())
    assert all(table[c - 1] == -1 for c in class_names.COCO_UNUSED_CATEGORY_IDS)


def test_class_lists_have_the_published_lengths():
    assert [len(x) for x in (class_names.VOC_PLAIN, class_names.CONTEXT_PLAIN, class_names.COCO_THINGS)] == [20, 59, 80]
    assert all(len(set(x)) == len(x) for x in (class_names.VOC_OFFICIAL, class_names.CONTEXT_OFFICIAL))
    with pytest.raises(ValueError, match="expected names of the list"):
        class_names.renamed(["cat"], {"dog": "hound"})


@pytest.mark.parametrize(
    "name,spoken",
    [("cat", "cat"), ("hot_dog ", "hot dog"), ("sky-other-merged", "sky"), ("tree-merged", "tree"),
     ("water-other", "water"), ("door-stuff", "door"),
     ("wall-brick", "brick wall"), ("window-blind", "window blind"), ("t-shirt", "t-shirt")],
)  # fmt: skip
def test_class_names_are_asked_for_as_one_says_them(name, spoken):
    assert class_names.spoken_name(name) == spoken
