"""Every format is read back by a library, or by a decoder after its documentation. More readers: test_programs.py."""

import base64
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.formats.conftest import NAMES, check
from zeroseg.errors import ZerosegError

pytest.importorskip("shapely", reason="shapely is not installed (extra datasets)")
pytest.importorskip("contourpy", reason="contourpy is not installed (extra datasets)")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools's own
EXACT, SIMPLE = {"tolerance_px": 0.0}, {}


def by_centres(polygons, size):
    """pycocotools fills polygons, (n, 2) each, as it and CVAT do."""
    mask_tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (extra dev)")
    found = mask_tools.frPyObjects([np.ravel(polygon).tolist() for polygon in polygons], *size)
    return mask_tools.decode(mask_tools.merge(found)).astype(bool)


def from_supervision(dataset, names=None):
    """stem -> label index -> mask, all objects of a label together."""
    got = {}
    for path, _, detections in dataset:
        masks = got.setdefault(path.replace("\\", "/").split("/")[-1].rsplit(".", 1)[0], {})
        for class_id, mask in zip(detections.class_id, detections.mask if len(detections) else []):
            index = (names or NAMES).index(dataset.classes[class_id])
            masks[index] = masks.get(index, False) | mask.astype(bool)
    return got


@pytest.mark.parametrize(("options", "least_iou"), [(EXACT, 1.0), (SIMPLE, 0.99)])
def test_yolo_by_supervision(write, options, least_iou):
    sv = pytest.importorskip("supervision", reason="supervision is not installed (extra supervision)")
    folder, wanted = write("yolo", val=0.6, **options)
    got, splits = {}, {}
    for split in ("train", "val"):
        dataset = sv.DetectionDataset.from_yolo(
            str(folder / "images" / split), str(folder / "labels" / split), str(folder / "data.yaml"), force_masks=True
        )
        assert dataset.classes == NAMES
        splits[split] = from_supervision(dataset)
        got |= splits[split]
    assert all(splits.values())
    check(got, wanted, least_iou)


@pytest.mark.parametrize(("options", "least_iou"), [(EXACT, 1.0), (SIMPLE, 0.99), ({"shapes": "masks"}, 1.0)], ids=str)
def test_coco_by_pycocotools(write, capsys, options, least_iou):
    coco_tools = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra dev)")
    folder, wanted = write("coco", **options)
    coco = coco_tools.COCO(str(folder / "annotations/instances_train.json"))
    assert [category["name"] for category in coco.loadCats(range(1, 301))] == NAMES
    got = {}
    for image in coco.loadImgs(coco.getImgIds()):
        with Image.open(folder / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        masks = got.setdefault(image["file_name"][:-4], {})
        for entry in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(entry)
            masks[entry["category_id"] - 1] = mask
            exact = wanted[image["file_name"][:-4]][entry["category_id"] - 1]
            assert entry["area"] == exact.sum() and entry["iscrowd"] == 0
            rows, columns = np.nonzero(exact)
            x, y, width, height = entry["bbox"]
            assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
    check(got, wanted, least_iou)


def test_coco_masks_by_supervision(write):
    sv = pytest.importorskip("supervision", reason="supervision is not installed (extra supervision)")
    folder, wanted = write("coco", shapes="masks", val=0.5)
    got, files = {}, sorted((folder / "annotations").iterdir())
    assert [file.name for file in files] == ["instances_train.json", "instances_val.json"]
    for file in files:
        dataset = sv.DetectionDataset.from_coco(str(folder / "images"), str(file), force_masks=True)
        got |= from_supervision(dataset)
    check(got, wanted)


def test_voc_as_documented_and_boxes_by_supervision(write):
    sv = pytest.importorskip("supervision", reason="supervision is not installed (extra supervision)")
    names = NAMES[:254]
    folder, wanted = write("voc", names=names)
    got = {}
    for stem in (folder / "ImageSets/Segmentation/train.txt").read_text().splitlines():
        with Image.open(folder / f"SegmentationClass/{stem}.png") as classes:
            values = np.array(classes)
            assert classes.mode == "P" and Image.open(folder / f"JPEGImages/{stem}.jpg").size == classes.size
        got[stem] = {index - 1: values == index for index in np.unique(values).tolist() if index}
        objects = np.array(Image.open(folder / f"SegmentationObject/{stem}.png"))
        assert ((objects > 0) == (values > 0)).all()
    check(got, wanted)
    dataset = sv.DetectionDataset.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    for path, _, detections in dataset:
        masks = wanted[path.split("/")[-1][:-4]]
        assert len(detections) == len(masks)
        for class_id, box in zip(detections.class_id, detections.xyxy):
            rows, columns = np.nonzero(masks[names.index(dataset.classes[class_id])])
            np.testing.assert_array_equal(box, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))


@pytest.mark.parametrize(("options", "least_iou"), [(EXACT, 1.0), (SIMPLE, 0.99)])
def test_labelme_polygons_by_supervision_and_as_labelme_draws(write, options, least_iou):
    sv = pytest.importorskip("supervision", reason="supervision is not installed (extra supervision)")
    folder, wanted = write("labelme", **options)
    dataset = sv.DetectionDataset.from_labelme(str(folder), str(folder), force_masks=True)
    check(from_supervision(dataset), wanted, least_iou)
    got = {}
    for file in folder.glob("*.json"):
        document, masks = json.loads(file.read_text("utf-8")), got.setdefault(file.stem, {})
        for shape in document["shapes"]:
            canvas = Image.new("1", (document["imageWidth"], document["imageHeight"]))
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
            index = NAMES.index(shape["label"])
            masks[index] = masks.get(index, False) | np.array(canvas)
    check(got, wanted, least_iou)
    assert (folder / "labels.txt").read_text("utf-8").splitlines() == NAMES


def test_labelme_masks_as_documented(write):
    folder, wanted = write("labelme", shapes="masks")
    got = {}
    for file in folder.glob("*.json"):
        document, masks = json.loads(file.read_text("utf-8")), got.setdefault(file.stem, {})
        for shape in document["shapes"]:
            (left, top), (right, bottom) = shape["points"]
            mask = masks[NAMES.index(shape["label"])] = np.zeros(
                (document["imageHeight"], document["imageWidth"]), bool
            )
            mask[top : bottom + 1, left : right + 1] = Image.open(io.BytesIO(base64.b64decode(shape["mask"])))
        assert (folder / document["imagePath"]).is_file()
    check(got, wanted)


def tasks_of(folder):
    for task in json.loads((folder / "tasks.json").read_text("utf-8")):
        [prediction] = task["predictions"]
        stem = task["data"]["image"].removeprefix("/data/local-files/?d=images/")[:-4]
        assert (folder / "images" / f"{stem}.png").is_file()
        yield stem, prediction["result"]
    text = (folder / "interface.xml").read_text("utf-8")
    assert not text.startswith("<?xml"), "Label Studio's parser refuses text that declares an encoding"
    interface = ElementTree.fromstring(text)
    assert [label.get("value") for label in interface.iter("Label")] == NAMES


def unpacked(data):
    """Decode an rle-pack bit by bit, after its documentation."""
    bits, at = "".join(f"{byte:08b}" for byte in data), 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    count, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        repeated, length = read(1), read(widths[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return np.array(values, np.uint8)


def test_label_studio_masks_as_documented(write):
    folder, wanted = write("label-studio", shapes="masks")
    got = {}
    for stem, regions in tasks_of(folder):
        masks = got.setdefault(stem, {})
        for region in regions:
            assert region["type"] == "brushlabels" and region["value"]["format"] == "rle"
            rgba = unpacked(region["value"]["rle"]).reshape(region["original_height"], region["original_width"], 4)
            assert (rgba == rgba[..., :1]).all() and set(np.unique(rgba)) <= {0, 255}
            [label] = region["value"]["brushlabels"]
            masks[NAMES.index(label)] = rgba[..., 0] > 0
    check(got, wanted)


@pytest.mark.parametrize(("options", "least_iou"), [(EXACT, 1.0), (SIMPLE, 0.99)])
def test_label_studio_polygons_as_documented(write, options, least_iou):
    folder, wanted = write("label-studio", **options)
    got = {}
    for stem, regions in tasks_of(folder):
        masks = got.setdefault(stem, {})
        for region in regions:
            size = region["original_height"], region["original_width"]
            polygon = np.array(region["value"]["points"]) / 100 * size[::-1]
            [label] = region["value"]["polygonlabels"]
            index = NAMES.index(label)
            masks[index] = masks.get(index, False) | by_centres([polygon], size)
    check(got, wanted, least_iou)


@pytest.mark.parametrize(("options", "least_iou"), [(EXACT, 1.0), (SIMPLE, 0.99), ({"shapes": "masks"}, 1.0)], ids=str)
def test_cvat_as_documented(write, options, least_iou):
    folder, wanted = write("cvat", **options)
    document = ElementTree.parse(folder / "annotations.xml")
    assert [name.text for name in document.findall("meta/task/labels/label/name")] == NAMES
    got = {}
    for image in document.iter("image"):
        size = int(image.get("height")), int(image.get("width"))
        masks = got.setdefault(image.get("name")[:-4], {})
        for polygon in image.iter("polygon"):
            index = NAMES.index(polygon.get("label"))
            points = [[float(x) for x in point.split(",")] for point in polygon.get("points").split(";")]
            masks[index] = masks.get(index, False) | by_centres([points], size)
        for mask in image.iter("mask"):
            left, top, width, height = (int(mask.get(name)) for name in ("left", "top", "width", "height"))
            runs = [int(run) for run in mask.get("rle").split(",")]
            whole = masks[NAMES.index(mask.get("label"))] = np.zeros(size, bool)
            inside = (np.arange(len(runs)) % 2).repeat(runs)
            whole[top : top + height, left : left + width] = inside.reshape(height, width)
    check(got, wanted, least_iou)


@pytest.mark.parametrize(
    ("kind", "names", "options", "message"),
    [
        ("voc", NAMES, {}, "voc holds 254 labels at most, the list has 300; use coco, or fewer labels"),
        ("voc", NAMES[:9], {"shapes": "polygons"}, "--shapes polygons: voc holds masks only"),
        ("yolo", NAMES, {"shapes": "masks"}, "--shapes masks: yolo holds polygons only"),
        ("cvat", NAMES, {"val": 0.1}, "--val: cvat has no validation set; leave it out"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(write, tmp_path, kind, names, options, message):
    with pytest.raises(ZerosegError) as refused:
        write(kind, names=names, **options)
    assert str(refused.value) == message and not list(tmp_path.iterdir())
