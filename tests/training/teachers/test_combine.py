"""How teachers are combined, cell by cell in NumPy; and the caches that keep what they say."""

import numpy as np
import pytest
import torch
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.training.photos import find_photos
from zeroseg.training.recipes import DiffusionConfig, PartsConfig
from zeroseg.training.row_cache import RowCache
from zeroseg.training.teachers import combine as combining
from zeroseg.training.teachers.cache import Step, fill_together
from zeroseg.training.teachers.combine import FINE, NameVectors, box_shapes, combine, coverage, lay_boxes, lay_streets
from zeroseg.training.teachers.streets import NOTHING

WALK = DiffusionConfig(share=0.8, tau=0.2, reach=0.5, steps=3)
DIM = 5


def unit(rng, count: int) -> torch.Tensor:
    rows = rng.normal(size=(count, DIM))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()


def test_coverage_is_the_covered_share():
    boxes = torch.tensor([[0.1, 0.2, 0.63, 0.9, 1, 0], [0.0, 0.0, 1.0, 1.0, 1, 0]])
    got = coverage(boxes, (5, 4)).numpy()
    fine = (np.arange(1000) + 0.5) / 1000
    for box, cells in zip(boxes.numpy(), got, strict=True):
        inside_x, inside_y = (fine > box[0]) & (fine < box[2]), (fine > box[1]) & (fine < box[3])
        wanted = np.outer(inside_y.reshape(5, -1).mean(1), inside_x.reshape(4, -1).mean(1))
        np.testing.assert_allclose(cells, wanted, atol=5e-3)  # a thousandth of the photo is a 200th of a cell


def test_strength_is_the_geometric_mean_with_the_saliency():
    rng = np.random.default_rng(0)
    places = torch.from_numpy(rng.normal(size=(DIM, FINE, FINE))).float()
    saliency = torch.from_numpy(rng.random((FINE, FINE))).float()
    got = combining.gate(places, saliency).numpy()
    strength = np.linalg.norm(places.numpy(), axis=0)
    np.testing.assert_allclose(np.linalg.norm(got, axis=0), np.sqrt(strength * saliency.numpy()), rtol=1e-4)
    np.testing.assert_allclose(got / np.linalg.norm(got, axis=0), places.numpy() / strength, atol=1e-5)


def test_streets_replace_what_was_there():
    rng = np.random.default_rng(1)
    target, names = torch.from_numpy(rng.normal(size=(DIM, 2, 2))).float(), unit(rng, 19)
    label = torch.tensor([[0, NOTHING], [10, 3]])
    got = lay_streets(target, label, names, 0.7)
    torch.testing.assert_close(got[:, 0, 1], target[:, 0, 1])
    for (y, x), name in {(0, 0): 0, (1, 0): 10, (1, 1): 3}.items():
        torch.testing.assert_close(got[:, y, x], 0.7 * names[name])


def test_stuff_counts_where_nothing_stands_out():
    """Sky (10) is stuff here, road (0) is not."""
    rng = np.random.default_rng(4)
    places, streets = torch.from_numpy(rng.normal(size=(FINE, FINE, DIM))).float(), unit(rng, 19)
    label = np.full((FINE, FINE), NOTHING, np.uint8)
    label[:10], label[10:20] = 10, 0
    saliency = np.full((FINE, FINE), 100, np.uint8)
    saliency[:, 24:] = 200
    found = {"dino": {"saliency": saliency}, "streets": {"label": label}}
    parts = PartsConfig(saliency=True, streets=("streets/",), stuff=("sky",), street_strength=0.6)
    names = NameVectors(torch.zeros(0, DIM), streets)
    got = combine(places, found, names, parts, WALK)
    gated = combining.gate(places.permute(2, 0, 1), torch.from_numpy(saliency) / 255).permute(1, 2, 0)
    torch.testing.assert_close(got[:10, :24], 0.6 * streets[10].expand(10, 24, DIM))
    torch.testing.assert_close(got[:10, 24:], gated[:10, 24:])
    torch.testing.assert_close(got[10:20], 0.6 * streets[0].expand(10, FINE, DIM))
    torch.testing.assert_close(got[20:], gated[20:])


def test_boxes_mix_names_by_their_strongest_box():
    rng = np.random.default_rng(2)
    target, names = rng.normal(size=(DIM, FINE, FINE)).astype(np.float32), unit(rng, 4)
    boxes = np.zeros((5, 6), np.float32)
    boxes[:, 4], boxes[:, 5] = rng.random(5), [0, 3, 3, 1, 0]
    shapes = rng.random((5, FINE, FINE)).astype(np.float32)
    got = lay_boxes(*map(torch.from_numpy, (target, boxes, shapes)), names).numpy()
    for y, x in ((0, 0), (7, 40), (47, 47)):
        e = np.zeros(4)
        for box, shape in zip(boxes, shapes, strict=True):
            e[int(box[5])] = max(e[int(box[5])], shape[y, x] * box[4])
        a = e.max()
        wanted = (1 - a) * target[:, y, x] + a * (e**2 / (e**2).sum()) @ names.numpy()
        np.testing.assert_allclose(got[:, y, x], wanted, atol=1e-5)


def test_a_box_keeps_what_does_not_look_like_its_surroundings():
    """Two halves that do not mix; a box over the left half and a little of the right."""
    grid, half = (4, 4), torch.arange(16) % 4 < 2
    alike = (half[:, None] == half[None]).float()
    boxes = torch.tensor([[0.0, 0.0, 0.6, 1.0, 0.9, 7.0]])
    walk = DiffusionConfig(share=0.97, steps=10)
    [shape] = box_shapes(boxes, alike / alike.sum(1, keepdim=True), grid, torch.ones(FINE, FINE), None, walk)
    assert shape[:, : FINE // 4].min() > 0.95
    assert shape[:, int(0.65 * FINE) :].max() == 0
    assert shape[:, FINE // 2 + 2 : int(0.6 * FINE)].max() < 0.75


def test_half_of_a_person_comes_from_the_mask():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.9, 0.0], [0.0, 0.0, 1.0, 1.0, 0.9, 5.0]])
    mask = torch.zeros(FINE, FINE)
    mask[:10] = 1.0
    shapes = box_shapes(boxes, torch.full((4, 4), 0.25), (2, 2), torch.ones(FINE, FINE), mask, WALK)
    np.testing.assert_allclose(shapes[0, :10], 1.0, atol=1e-5)
    np.testing.assert_allclose(shapes[0, 10:], 0.5, atol=1e-5)
    np.testing.assert_allclose(shapes[1], 1.0, atol=1e-5)


def test_without_parts_the_map_stays():
    places = torch.from_numpy(np.random.default_rng(3).normal(size=(FINE, FINE, DIM))).float()
    got = combine(places, {}, NameVectors(torch.zeros(0, DIM), torch.zeros(0, DIM)), PartsConfig(), WALK)
    torch.testing.assert_close(got, places)


def test_box_strength_is_a_power_of_the_score_and_saliency_counts_the_floor_at_least():
    """One box over the whole photo, with an affinity that moves nothing: every value can be written down."""
    still = np.arange(4, dtype=np.uint16)[:, None]
    saliency = np.full((FINE, FINE), 255, np.uint8)
    saliency[:, FINE // 2 :] = 0
    found = {
        "dino": {"index": still, "weight": np.ones((4, 1), np.float16), "grid": (2, 2), "saliency": saliency},
        "nanodet": {"boxes": np.float32([[0, 0, 1, 1, 0.25, 1]])},
    }
    names = NameVectors(unit(np.random.default_rng(4), 2), torch.zeros(0, DIM))
    parts = PartsConfig(saliency=True, detectors=("nanodet",), box_power=0.5, box_floor=0.2)
    got = combine(torch.zeros(2, 2, DIM), found, names, parts, WALK)
    for column, strength in ((0, 0.25**0.5), (FINE - 1, 0.25**0.5 * 0.2)):
        torch.testing.assert_close(got[:, column], (strength * names.things[1]).expand(FINE, DIM))
    assert found["nanodet"]["boxes"][0, 4] == np.float32(0.25)  # the cached box is left as it is


@pytest.fixture
def photos(tmp_path):
    for i in range(6):
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (20, 16), (40 * i, 0, 0)).save(folder / f"{i}.png")
    (tmp_path / "photos" / "3.png").write_bytes(b"none")
    return find_photos(tmp_path / "photos")


def open_steps(root, calls, fail_at=None):
    """Two caches: the red of each photo, and twice what the first one found."""

    def red(image, name, found):
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append(name)
        return {"value": np.float32(np.asarray(image)[0, 0, 0])}

    def twice(image, name, found):
        return {"value": 2 * found["red"]["value"]}

    arrays = {"value": ((), "float32")}
    caches = [RowCache(root, name, {"key": 1}, arrays, 6) for name in ("red", "twice")]
    return [Step("red", caches[0], red), Step("twice", caches[1], twice)]


@pytest.mark.parametrize("threads", [1, 3])
def test_each_photo_is_computed_once_and_a_stopped_pass_goes_on(tmp_path, photos, threads):
    calls = []
    steps = open_steps(tmp_path / "cache", calls, fail_at=2)
    with pytest.raises(KeyboardInterrupt):
        fill_together(steps, photos, threads=threads, progress=False)
    for step in steps:
        step.cache.close()
    steps = open_steps(tmp_path / "cache", calls)
    fill_together(steps, photos, threads=threads, progress=False)
    assert sorted(calls) == ["0.png", "1.png", "2.png", "4.png", "5.png"]
    for step, factor in zip(steps, (1, 2), strict=True):
        assert step.cache.complete
        assert list(step.cache.unreadable()) == [3]
        np.testing.assert_array_equal(
            step.cache.arrays["value"][[0, 1, 2, 4, 5]], factor * 40.0 * np.array([0, 1, 2, 4, 5])
        )


def test_what_is_there_can_be_read_while_another_job_fills_it(tmp_path):
    arrays = {"value": ((2,), "float32")}
    with pytest.raises(ZerosegError, match="not even a part"):
        RowCache(tmp_path, "a", {"key": 1}, arrays, 3, as_it_is=True)
    filling = RowCache(tmp_path, "a", {"key": 1}, arrays, 3)
    filling.write(1, {"value": np.float32([3, 4])})
    filling.write(2, {"value": np.float32([5, 6])})
    filling.arrays["value"][2, 0] = 7  # half written
    reading = RowCache(tmp_path, "a", {"key": 1}, arrays, 3, as_it_is=True)
    assert list(reading.readable()) == [1]
    np.testing.assert_array_equal(reading.arrays["value"][1], [3, 4])
    filling.close()
