"""The eight sets of a suite in miniature: two photos of coloured squares each, masks in every set's own raw ids."""

import numpy as np
from PIL import Image

from zeroseg.evaluation import class_names, scene_names

# no two segments are equally sure of their colour, so that no pixel between two squares is a tie
COLOURS = {"red": (190, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 175), "dark": (60, 60, 60)}
# column -> raw value by colour; what "dark" means is background, or nothing that counts. And class ids by raw value.
RAW = {
    "VOC21": {"red": 1, "green": 8, "blue": 20, "dark": 0},
    "PC60": {"red": 1, "green": 30, "blue": 59, "dark": 0},
    "Object": {"red": 0, "green": 16, "blue": 89, "dark": 120},
    "City": {"red": 7, "green": 24, "blue": 33, "dark": 0},
    "ADE": {"red": 1, "green": 5, "blue": 150, "dark": 0},
}
RAW |= {"VOC20": RAW["VOC21"], "PC59": RAW["PC60"], "Stuff": RAW["Object"]}
IDS = {
    "VOC21": {0: 0, 1: 1, 8: 8, 20: 20},
    "PC60": {0: 0, 1: 1, 30: 30, 59: 59},
    "Object": {0: 1, 16: 16, 89: 80, 120: 0},  # raw 16 is category 17, the 16th thing: 12 was never used
    "VOC20": {1: 0, 8: 7, 20: 19},
    "City": {7: 0, 24: 11, 33: 18},
    "PC59": {1: 0, 30: 29, 59: 58},
    "ADE": {1: 0, 5: 4, 150: 149},
    "Stuff": {0: 0, 16: 15, 89: 79, 120: 109},
}
CLASSES = {"VOC21": 21, "PC60": 60, "Object": 81, "VOC20": 20, "City": 19, "PC59": 59, "ADE": 150, "Stuff": 171}
WITH_BACKGROUND = ("VOC21", "PC60", "Object")
ADE = "ade/ADEChallengeData2016"
# where each set's photo and mask number i are
FILES = {
    "VOC21": ("VOCdevkit/VOC2012/JPEGImages/{}.jpg", "VOCdevkit/VOC2012/SegmentationClass/{}.png"),
    "PC60": ("VOCdevkit/VOC2010/JPEGImages/{}.jpg", "VOCdevkit/VOC2010/SegmentationClassContext/{}.png"),
    "Object": ("coco_stuff164k/images/val2017/{}.jpg", "coco_stuff164k/annotations/val2017/{}.png"),
    "City": ("cityscapes/leftImg8bit/val/ulm/{}_leftImg8bit.png", "cityscapes/gtFine/val/ulm/{}_gtFine_labelIds.png"),
    "ADE": (
        "ade/ADEChallengeData2016/images/validation/{}.jpg",
        "ade/ADEChallengeData2016/annotations/validation/{}.png",
    ),
}
FILES |= {"VOC20": FILES["VOC21"], "PC59": FILES["PC60"], "Stuff": FILES["Object"]}
LISTS = {
    "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt": "0\n1\n",
    "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt": "0\n1\n",
}


def write_sets(root) -> None:
    """All sets under root: photos 64 x 64 in squares of 16 px, a quarter of which has another colour than its mask;
    the first row of every mask is 255."""
    for seed, column in enumerate(("VOC21", "PC60", "Object", "City", "ADE")):
        for i in range(2):
            rng = np.random.default_rng([seed, i])
            names = list(COLOURS)
            truth = rng.integers(0, 4, (4, 4))
            shown = np.where(rng.random((4, 4)) < 0.25, rng.integers(0, 4, (4, 4)), truth)
            photo, mask = (root / name.format(i) for name in FILES[column])
            photo.parent.mkdir(parents=True, exist_ok=True)
            mask.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.array([COLOURS[name] for name in names], np.uint8)[shown]
            Image.fromarray(pixels.repeat(16, 0).repeat(16, 1)).save(photo, format="PNG")  # whatever its suffix
            raw = np.array([RAW[column][name] for name in names], np.uint8)[truth].repeat(16, 0).repeat(16, 1)
            raw[0] = 255
            Image.fromarray(raw).save(mask)
    for name, text in LISTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def class_of_colour(column: str) -> dict[str, int]:
    """Class id by colour; without "dark" where that is background or not counted."""
    found = {colour: IDS[column].get(raw) for colour, raw in RAW[column].items()}
    return {colour: i for colour, i in found.items() if i is not None and not (column in WITH_BACKGROUND and i == 0)}


def names_of(column: str) -> list[str]:
    """The official names by class id, background included."""
    lists = {
        "VOC21": ["background", *class_names.VOC_OFFICIAL],
        "PC60": ["background", *class_names.CONTEXT_OFFICIAL],
        "Object": ["background", *class_names.COCO_THINGS],
        "VOC20": class_names.VOC_OFFICIAL,
        "City": scene_names.CITYSCAPES_OFFICIAL,
        "PC59": class_names.CONTEXT_OFFICIAL,
        "ADE": scene_names.ADE20K_OFFICIAL,
        "Stuff": scene_names.COCO_STUFF_OFFICIAL,
    }
    return lists[column]


def truth_ids(column: str, mask: np.ndarray) -> np.ndarray:
    """Class ids of a raw mask, 255 where it is not counted; in COCO-Object 255 is background."""
    ids = np.full(mask.shape, 255)
    for raw, i in IDS[column].items():
        ids[mask == raw] = i
    ids[mask == 255] = 0 if column == "Object" else 255
    return ids


def mean_iou(column: str, pairs) -> float:
    """Of (truth, answer) pairs of class ids: histograms over all photos, classes that occur nowhere left out."""
    count = CLASSES[column]
    hit, said, true = (np.zeros(count, np.int64) for _ in range(3))
    for truth, answer in pairs:
        counted = truth != 255
        t, a = truth[counted], answer[counted]
        hit += np.bincount(a[a == t], minlength=count)
        said += np.bincount(a, minlength=count)
        true += np.bincount(t, minlength=count)
    union = said + true - hit
    return float(np.mean(hit[union > 0] / union[union > 0]))
