"""Run lengths, byte for byte against pycocotools."""

import numpy as np
import pytest

from zeroseg.masks import bounding_box, decode_rle, encode_label_map, encode_rle

coco = pytest.importorskip("pycocotools.mask")


def theirs(mask):
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def random_masks():
    for i in range(60):
        height, width = np.random.randint(1, 50, 2)
        mask = np.random.rand(height, width) < np.random.rand()
        yield np.kron(mask, np.ones((5, 7), bool)) if i % 2 else mask
    large = np.zeros((3000, 4000), bool)  # differences of more than 20 bits
    large[0, 0] = large[2, 3000] = large[-1, -1] = True
    yield large
    yield np.zeros((1, 1), bool)
    yield np.ones((1, 1), bool)
    yield np.ones((7, 3), bool)


def test_encode_equals_pycocotools():
    for mask in random_masks():
        assert encode_rle(mask) == theirs(mask)


def test_decode_is_the_inverse():
    for mask in random_masks():
        np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


def test_bounding_box_equals_pycocotools():
    for mask in random_masks():
        expected = coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8))))
        assert bounding_box(mask) == tuple(expected.astype(int))


def test_label_map_equals_one_mask_at_a_time():
    for height, width in [(1, 1), (31, 17), (40, 60)]:
        label_map = np.random.randint(-1, 5, (height, width)).astype(np.int16)
        found = encode_label_map(label_map)
        assert found == {label: theirs(label_map == label) for label in range(5) if (label_map == label).any()}


def test_background_only_has_no_labels():
    assert encode_label_map(np.full((4, 5), -1, np.int16)) == {}


def test_wrong_counts_are_named():
    with pytest.raises(ValueError, match="runs add up to 12, expected 5 x 5 = 25"):
        decode_rle({"size": [5, 5], "counts": encode_rle(np.zeros((3, 4)))["counts"]})
    with pytest.raises(ValueError, match=r"mask: expected \(H, W\)"):
        encode_rle(np.zeros((2, 3, 4)))
