"""Each helper teacher's reading of its network, against the same computed place by place."""

import contextlib

import numpy as np
import pytest
import torch
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.training.recipes import IMAGENET_MEAN, IMAGENET_STD, DiffusionConfig
from zeroseg.training.teachers.detectors import CenterNet, NanoDet, decode_sides, fit
from zeroseg.training.teachers.dino import Dino, affinity, keep_largest, patch_grid, spread_out, walk
from zeroseg.training.teachers.persons import GRID, Persons, cut_box
from zeroseg.training.teachers.streets import NAMES, NOTHING, Streets, most_common, stuff_ids

WALK = DiffusionConfig(share=0.9, tau=0.2, reach=0.5, steps=5)


def random_photo(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(256, size=(4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def affinity_by_hand(tokens, grid, config):
    maps = [t.numpy().astype(np.float64) for t in tokens]
    maps = [m - m.mean(0) for m in maps]
    count = grid[0] * grid[1]
    result = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            cosine = np.mean([m[i] @ m[j] / np.linalg.norm(m[i]) / np.linalg.norm(m[j]) for m in maps])
            dy, dx = (i // grid[1] - j // grid[1]) / grid[0], (i % grid[1] - j % grid[1]) / grid[1]
            result[i, j] = np.exp((cosine - 1) / config.tau - (dy**2 + dx**2) / config.reach**2)
    return result / result.sum(1, keepdims=True)


def test_affinity_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(12, 7, generator=generator) for _ in range(3)]
    np.testing.assert_allclose(affinity(tokens, (3, 4), WALK), affinity_by_hand(tokens, (3, 4), WALK), atol=1e-5)


def test_the_largest_entries_are_kept_and_sum_to_one():
    matrix = torch.rand(9, 9, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    index, weight = keep_largest(matrix, 4)
    got = spread_out(index.numpy().astype(np.uint16), weight.numpy(), 9)
    matrix = matrix.numpy()
    wanted = np.where(matrix >= np.sort(matrix, axis=1)[:, -4:-3], matrix, 0)
    np.testing.assert_allclose(got, wanted / wanted.sum(1, keepdims=True), atol=1e-6)


def test_walk_is_its_series():
    matrix = torch.rand(6, 6, generator=torch.Generator().manual_seed(2)).softmax(dim=1)
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    s, power, series = matrix.numpy().astype(np.float64), values.numpy().astype(np.float64), 0.0
    for _ in range(WALK.steps):
        series = series + (1 - WALK.share) * power
        power = WALK.share * s @ power
    np.testing.assert_allclose(walk(matrix, values, WALK), series + power, atol=1e-5)


@pytest.mark.parametrize(
    "size, grid", [((224, 224), (16, 16)), ((300, 200), (16, 24)), ((200, 300), (24, 16)), ((2000, 200), (16, 32))]
)
def test_patches_keep_the_aspect(size, grid):
    assert patch_grid(size, 224) == grid


def test_dino_reads_tokens_and_saliency(tmp_path, stand_ins):
    stand_ins.save_dino(tmp_path)
    part, image = Dino(tmp_path, 56, WALK), random_photo(84, 56)
    values = part.compute(image, "x", {})
    assert tuple(values["grid"]) == (4, 6)
    pixels = (np.asarray(image, np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    saliency = 1 / (1 + np.exp(-pixels.mean(2)))
    wanted = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(saliency)[None], (48, 48))[0]
    np.testing.assert_allclose(values["saliency"] / 255, wanted, atol=0.5 / 255 + 1e-5)  # stored as bytes
    patches = pixels.reshape(4, 14, 6, 14, 3).mean((1, 3)).reshape(24, 3)
    rng = np.random.default_rng(0)
    tokens = [torch.from_numpy(patches @ rng.normal(size=(3, 8)).astype(np.float32)) for _ in range(3)]
    got = spread_out(values["index"], values["weight"], 24)
    np.testing.assert_allclose(got, affinity_by_hand(tokens, (4, 6), WALK), atol=2e-3)  # stored as float16


def test_nanodet_sides_are_expected_distances():
    rng = np.random.default_rng(0)
    scores, sides = rng.random((26 * 26, 80)) ** 40, rng.normal(size=(26 * 26, 44))
    got = decode_sides(scores.astype(np.float32), sides.astype(np.float32), 16, 416, 0.5).numpy()
    wanted = []
    for place, kind in zip(*np.nonzero(scores > 0.5)):
        p = np.exp(sides[place].reshape(4, 11))
        left, top, right, bottom = (p / p.sum(1, keepdims=True)) @ np.arange(11) * 16
        x, y = (place % 26 + 0.5) * 16, (place // 26 + 0.5) * 16
        wanted.append([x - left, y - top, x + right, y + bottom, scores[place, kind], kind])
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)
    assert len(wanted) > 100


def test_nanodet_boxes_are_fractions_of_the_photo(tmp_path, stand_ins):
    scores = {s: np.zeros((1, (416 // s) ** 2, 80), np.float32) for s in (8, 16, 32)}
    sides = {s: np.zeros((1, (416 // s) ** 2, 44), np.float32) for s in (8, 16, 32)}
    scores[32][0, 13 * 2 + 4, 16] = 0.9  # a dog at x 4, y 2
    scores[32][0, 13 * 2 + 6, 16] = 0.6  # another, two places on
    sides[32][0, 13 * 2 + 4] = sides[32][0, 13 * 2 + 6] = np.tile(np.where(np.arange(11) == 2, 50, 0), 4)
    stand_ins.save_nanodet(tmp_path, scores, sides)
    boxes = NanoDet(tmp_path, 0.2).compute(random_photo(208, 104), "x", {})["boxes"]
    x, y, reach = 4.5 * 32, 2.5 * 32, 64
    wanted = [(x - reach) / 416, (y - reach) / 208, (x + reach) / 416, (y + reach) / 208, 0.9, 16]
    np.testing.assert_allclose(boxes[0], wanted, atol=1e-4)
    assert boxes[1, 4] == pytest.approx(0.6, abs=1e-6)  # overlaps by a third, so it stays
    assert (boxes[2:] == 0).all()


def test_centernet_suppresses_per_class(tmp_path, stand_ins):
    detections = np.zeros((1, 100, 6), np.float32)
    detections[0, 0] = 0, 0, 256, 128, 0.5, 3
    detections[0, 1] = 0, 0, 250, 128, 0.8, 3  # the same thing, surer
    detections[0, 2] = 0, 0, 250, 128, 0.7, 4  # another class
    detections[0, 3] = 0, 0, 99, 99, 0.19, 4  # unsure
    stand_ins.save_centernet(tmp_path, detections)
    boxes = CenterNet(tmp_path, 0.2).compute(random_photo(200, 100), "x", {})["boxes"]
    np.testing.assert_allclose(boxes[:2, 4:], [[0.8, 3], [0.7, 4]], atol=1e-6)
    np.testing.assert_allclose(boxes[0, :4], [0, 0, 250 / 512, 0.5], atol=1e-6)
    assert (boxes[2:] == 0).all()


def test_fit_leaves_the_rest_empty():
    pixels, width, height = fit(random_photo(100, 50), 64)
    assert (width, height) == (64, 32)
    assert pixels.shape == (64, 64, 3) and not pixels[32:].any() and pixels[:32].any()


def test_persons_are_looked_for_in_their_boxes_only(tmp_path, stand_ins):
    stand_ins.save_selfie(tmp_path)
    red = Image.new("RGB", (96, 96), (255, 0, 0))
    boxes = np.zeros((32, 6), np.float32)
    boxes[0] = 0.25, 0.25, 0.5, 0.5, 0.9, 0
    boxes[1] = 0.7, 0.7, 0.9, 0.9, 0.9, 16  # a dog
    boxes[2] = 0.7, 0.1, 0.9, 0.2, 0.3, 0  # unsure
    person = Persons(tmp_path, 0.35).compute(red, "x", {"nanodet": {"boxes": boxes}})["person"]
    x0, y0, x1, y1 = cut_box(boxes[0], (96, 96))
    assert (x0, y0, x1, y1) == (20, 20, 52, 52)  # 24 ... 48 px and 15 % of 24 on each side
    wanted = np.zeros((96, 96))
    wanted[y0:y1, x0:x1] = 255
    wanted = wanted.reshape(GRID, 2, GRID, 2).mean((1, 3))
    np.testing.assert_allclose(person, wanted, atol=1)


def test_streets_keep_the_most_common_label():
    labels = np.random.default_rng(0).integers(0, len(NAMES), (100, 96))
    labels[:50, :48] = 10
    got = most_common(labels, 2)
    assert got[0, 0] == 10
    for y in range(2):
        for x in range(2):
            cell = labels[50 * y : 50 * y + 50, 48 * x : 48 * x + 48]
            assert got[y, x] == np.bincount(cell.ravel()).argmax()
    assert NOTHING not in got


class Labels:
    """An interpreter of a network that gives one label map for every photo."""

    def __init__(self, labels):
        self.labels = labels

    def get_input_details(self):
        return [{"shape": (1, *self.labels.shape, 3), "index": 0}]

    def get_output_details(self):
        return [{"index": 1}]

    def set_tensor(self, index, pixels):
        assert index == 0 and pixels.shape == (1, *self.labels.shape, 3)

    def invoke(self):
        pass

    def get_tensor(self, index):
        return self.labels[None]


def test_only_stuff_counts_outside_streets():
    labels = np.repeat(np.arange(96) // 32, 96).reshape(96, 96)  # road, sidewalk, building
    streets = object.__new__(Streets)  # without its file
    streets.folders, streets.stuff = ("streets/",), stuff_ids(("sidewalk",))
    streets._interpreter, streets._lock = Labels(labels), contextlib.nullcontext()
    photo = Image.new("RGB", (30, 20))
    everything = np.repeat(np.arange(48) // 16, 48).reshape(48, 48)
    np.testing.assert_array_equal(streets.compute(photo, "streets/a.jpg", {})["label"], everything)
    wanted = np.where(everything == 1, 1, NOTHING)
    np.testing.assert_array_equal(streets.compute(photo, "beaches/a.jpg", {})["label"], wanted)
    streets.stuff = []
    assert (streets.compute(photo, "beaches/a.jpg", {})["label"] == NOTHING).all()
    with pytest.raises(ZerosegError, match="parts.stuff: expected some of road, sidewalk.*got 'sea'"):
        stuff_ids(("sky", "sea"))


@pytest.mark.parametrize("kind", [lambda d: Dino(d, 56, WALK), lambda d: NanoDet(d, 0.2), lambda d: Persons(d, 0.3)])
def test_missing_and_broken_files_are_named(tmp_path, kind):
    with pytest.raises(ZerosegError, match="is missing"):
        kind(tmp_path)
    for name in ("dinov2s_saliency.onnx", "nanodet.onnx", "selfie.onnx"):
        (tmp_path / name).write_bytes(b"no network")
    with pytest.raises(ZerosegError, match="cannot be read as ONNX"):
        kind(tmp_path)
