"""The code of LabelMe, of Label Studio's SDK and of Datumaro reads datasets and gives the masks back.

readers.txt installs them. Large packages that they import for other tasks are empty modules here.
"""

import importlib
import io
import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from tests.formats.conftest import NAMES, check

for module in ("shapely", "contourpy", "pycocotools"):
    pytest.importorskip(module, reason=f"{module} is not installed (extra dev)")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools's own
POLYGONS = [({"tolerance_px": 0.0}, 1.0), ({}, 0.99)]  # (options, least IoU)
EVERY = pytest.mark.parametrize(("options", "least_iou"), [*POLYGONS, ({"shapes": "masks"}, 1.0)], ids=str)
# imported for windows, colours, TIFF files, words and log-in
UNUSED = (
    *("PyQt5", "PyQt5.QtCore", "PyQt5.QtGui", "PyQt5.QtWidgets", "imgviz", "imgviz.io", "tifffile"),
    *("nltk", "nltk.tokenize", "nltk.tokenize.treebank", "jwt"),
)


@pytest.fixture
def program(monkeypatch):
    """Import a module of a program, or skip the test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # labelme changes it
    modules = {name: types.ModuleType(name) for name in UNUSED}
    modules["nltk.tokenize.treebank"].TreebankWordTokenizer = type("TreebankWordTokenizer", (), {})
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)

    def load(name):
        package = name.split(".")[0]
        why = f"{package} is not installed (pip install --no-deps -r tests/formats/readers.txt)"
        pytest.importorskip(package, reason=why)
        return importlib.import_module(name)

    return load


@EVERY
def test_labelme(program, write, options, least_iou):
    labelme = program("labelme")
    folder, wanted = write("labelme", **options)
    got = {}
    for file in folder.glob("*.json"):
        found = labelme.LabelFile(str(file))
        with Image.open(io.BytesIO(found.image_data)) as photo:
            size = photo.height, photo.width
        masks = got.setdefault(file.stem, {})
        for name in {shape["label"] for shape in found.shapes}:
            shapes = [shape for shape in found.shapes if shape["label"] == name]
            masks[NAMES.index(name)] = labelme.utils.shapes_to_label(size, shapes, {name: 1})[0] == 1
    check(got, wanted, least_iou)


def accepted(folder):
    """Write the tasks as Label Studio exports them when every prediction is accepted; returns the file."""
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    for number, task in enumerate(tasks):
        task["id"], task["annotations"] = number, task.pop("predictions")
    path = folder / "exported.json"
    path.write_text(json.dumps(tasks), "utf-8")
    return path


def label_studio(program, folder):
    converter = program("label_studio_sdk.converter.converter").Converter
    return converter(str(folder / "interface.xml"), str(folder), download_resources=False)


def stem_of(address):
    return address.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def test_label_studio_masks(program, write):
    decode = program("label_studio_sdk.converter.brush").decode_rle
    folder, wanted = write("label-studio", shapes="masks")
    got = {}
    for item in label_studio(program, folder).iter_from_json_file(str(accepted(folder))):
        masks = got.setdefault(stem_of(item["input"]["image"]), {})
        for region in item["output"].get("label", []):
            rgba = decode(region["rle"]).reshape(region["original_height"], region["original_width"], 4)
            assert (rgba == rgba[..., :1]).all() and set(np.unique(rgba)) <= {0, 255}
            [name] = region["brushlabels"]
            masks[NAMES.index(name)] = rgba[..., 3] > 0
    check(got, wanted)


@pytest.mark.parametrize(("options", "least_iou"), POLYGONS)
def test_label_studio_polygons(program, write, capsys, options, least_iou):
    """Its converter turns the polygons into COCO's, which pycocotools fills."""
    from pycocotools.coco import COCO

    folder, wanted = write("label-studio", **options)
    made = folder / "coco"
    label_studio(program, folder).convert_to_coco(str(accepted(folder)), str(made), is_dir=False)
    coco = COCO(str(made / "result.json"))
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    assert sorted(names.values()) == sorted(NAMES)
    got = {stem_of(image["file_name"]): {} for image in coco.dataset["images"]}
    for entry in coco.dataset["annotations"]:
        masks = got[stem_of(coco.imgs[entry["image_id"]]["file_name"])]
        index = NAMES.index(names[entry["category_id"]])
        masks[index] = masks.get(index, False) | coco.annToMask(entry).astype(bool)
    check(got, wanted, least_iou)


@EVERY
def test_cvat_by_datumaro(program, write, options, least_iou):
    reader = program("datumaro.plugins.data_formats.cvat.base").CvatBase
    fill = program("datumaro.util.mask_tools").rles_to_mask
    folder, wanted = write("cvat", **options)
    got = {}
    for item in reader(str(folder / "annotations.xml")):
        size = item.media.size
        masks = got.setdefault(item.id, {})
        for shape in item.annotations:
            mask = shape.image if options.get("shapes") else fill([shape.points], *size[::-1])
            masks[shape.label] = masks.get(shape.label, False) | mask.astype(bool)
    check(got, wanted, least_iou)
