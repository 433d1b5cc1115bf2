"""Photos with difficult masks: a ring around another label, several parts, one pixel, odd sizes, 300 labels."""

import io

import numpy as np
import pytest
from PIL import Image

from zeroseg.formats.photo import Found, LabelledPhoto
from zeroseg.masks import encode_label_map

NAMES = ['a "b" & <c>', "yes", "1: 2", "Ärmel", "#5", *(f"label {i}" for i in range(5, 300))]


def blobs(rng, size, least):
    """(H, W) bool: smooth random spots, some with holes."""
    rows = np.cumsum(rng.normal(size=size), 0)
    field = np.cumsum(rows - rows.mean(0), 1)
    return np.sin(field / np.abs(field).max() * 6) > least


def label_maps() -> dict[str, np.ndarray]:
    """Photo name -> (H, W) int16, -1 for background."""
    y, x = np.mgrid[:97, :131]
    away = np.hypot(y - 50, x - 60)
    rings = np.full((97, 131), -1, np.int16)
    rings[(away < 40) & (away > 20)] = 0  # a hole, with label 299 in it
    rings[away < 9] = 299
    rings[90:96, 3:20:4] = 2  # bars: five parts
    rings[0, 130] = 7  # one pixel, in a corner
    rings[30:33, 100:103], rings[31, 101] = 8, -1  # a hole of one pixel
    rng = np.random.default_rng(3)
    spots = np.full((83, 59), -1, np.int16)
    spots[blobs(rng, spots.shape, 0.2)] = 4
    spots[blobs(rng, spots.shape, 0.7)] = 1
    noise = np.full((17, 23), -1, np.int16)
    noise[rng.random(noise.shape) > 0.5] = 3
    return {
        "a/rings.png": rings,
        "b/rings.png": spots,
        "noise.png": noise,
        "dot.png": np.full((1, 1), 5, np.int16),
        "nothing.png": np.full((5, 7), -1, np.int16),
    }


def photo_of(name: str, label_map: np.ndarray) -> LabelledPhoto:
    grey = np.random.default_rng(0).integers(0, 256, (*label_map.shape, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    found = [Found(index, 0.5, rle) for index, rle in encode_label_map(label_map).items()]
    return LabelledPhoto(name, label_map.shape, found, buffer.getvalue)


@pytest.fixture(scope="session")
def maps():
    return label_maps()


@pytest.fixture
def write(tmp_path, maps):
    """Write a dataset of the photos; returns its folder and stem -> (index -> (H, W) bool)."""
    from zeroseg.formats.dataset import Dataset, DatasetOptions

    def write(kind, names=NAMES, least=None, **options):
        folder = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        with Dataset(kind, folder, list(names), DatasetOptions(**options)) as dataset:
            for name, label_map in maps.items():
                dataset.add(photo_of(name, np.where(label_map < len(names), label_map, -1).astype(np.int16)))
        wanted = {}
        for name, label_map in maps.items():
            stem = {"a/rings.png": "rings", "b/rings.png": "rings-2"}.get(name, name[:-4])
            wanted[stem] = {i: label_map == i for i in np.unique(label_map).tolist() if 0 <= i < len(names)}
        return folder, wanted

    return write


def check(got: dict, wanted: dict, least_iou: float = 1.0) -> None:
    """Assert that every label of every photo has at least this IoU with the mask that was written."""
    assert {stem: set(masks) for stem, masks in got.items()} == {stem: set(masks) for stem, masks in wanted.items()}
    for stem, masks in wanted.items():
        for index, mask in masks.items():
            other = np.asarray(got[stem][index], bool)
            assert other.shape == mask.shape
            iou = (mask & other).sum() / (mask | other).sum()
            assert iou >= least_iou, (stem, index, iou)
