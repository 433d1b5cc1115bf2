import json

import numpy as np
import pytest
import torch

from zeroseg.errors import ZerosegError
from zeroseg.training.conse import (
    LabelSpace,
    class_crowding,
    class_vectors,
    load_label_space,
    name_vector,
    read_logits,
)
from zeroseg.training.recipes import WORN_CLASSES, ConseConfig


def test_class_vectors_follow_the_formula():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 5)).astype(np.float32)
    classes = ((("cat", 0), ("animal", 2)), (), (("shirt", 1),))
    space = LabelSpace(("cat", "animal", "shirt", "person"), vectors, classes, "test")
    got = class_vectors(space, ConseConfig(depth_decay=0.7, worn_weight=2.0, worn_classes=(2,)))
    t = vectors - vectors.mean(0)
    wanted = [t[0] + 0.7**2 * t[1], np.zeros(5), 0.7 * t[2] + 2 * t[3]]
    for row, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(row, want / max(np.linalg.norm(want), 1e-12), atol=1e-6)
    plain = class_vectors(space, ConseConfig(worn_weight=0.0, worn_classes=(2,)))
    np.testing.assert_allclose(plain[2], t[2] / np.linalg.norm(t[2]), atol=1e-6)


def test_reading_follows_the_formula_place_by_place():
    torch.manual_seed(0)
    logits, vectors = torch.randn(2, 3, 4, 6) * 2, torch.randn(6, 5)
    config = ConseConfig(strength_context=1.0, name_context=3.0)
    got = read_logits(logits, vectors, config)
    for b in range(2):
        mean = logits[b].reshape(-1, 6).mean(0)
        for y in range(3):
            for x in range(4):
                strong = torch.softmax(logits[b, y, x] + mean, 0) @ vectors
                name = torch.softmax(logits[b, y, x] + 3 * mean, 0) @ vectors
                torch.testing.assert_close(got[b, y, x], strong.norm() * name / name.norm())


def test_worn_classes_are_distinct_imagenet_classes():
    assert len(set(WORN_CLASSES)) == len(WORN_CLASSES) and min(WORN_CLASSES) >= 0 and max(WORN_CLASSES) < 1000


def test_label_files_are_read(labels):
    assert labels.vectors.shape == (12, 16) and labels.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(labels.vectors, axis=1), 1, atol=1e-6)
    assert len(labels.classes) == 10 and labels.classes[7] == () and labels.classes[0] == (("cat", 0), ("car", 2))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", b"cat\n", r"expected \(1, D\)"),
        ("names.txt", b"\xff\xfe\x00", "cannot be read"),
        ("clip_vitb32_text.npy", b"x", "cannot be read as .npy"),
        ("imagenet_names.jsonl", b"{}\n", "expected lines"),
        ("imagenet_names.jsonl", json.dumps({"index": 3, "names": []}).encode(), "expected classes numbered"),
        ("imagenet_names.jsonl", json.dumps({"index": 0, "names": [["yak", 0]]}).encode(), "first 'yak'"),
    ],
)
def test_wrong_label_files_are_one_line(label_folder, tmp_path, name, content, message):
    files = {}
    for path in label_folder.iterdir():
        files[path.name] = tmp_path / path.name
        files[path.name].write_bytes(content if path.name == name else path.read_bytes())
    with pytest.raises(ZerosegError, match=message) as error:
        load_label_space(files["names.txt"], files["clip_vitb32_text.npy"], files["imagenet_names.jsonl"], "test")
    assert "\n" not in str(error.value)


def test_missing_label_file_is_one_line(tmp_path):
    with pytest.raises(ZerosegError, match="label names: .* cannot be read"):
        load_label_space(tmp_path / "absent.txt", tmp_path / "v.npy", tmp_path / "c.jsonl", "test")


def test_reading_with_power_worn_name_and_balance_follows_the_formula():
    torch.manual_seed(1)
    logits, vectors = torch.randn(1, 2, 3, 5), torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    worn = torch.nn.functional.normalize(torch.randn(4), dim=0)
    config = ConseConfig(strength_power=1.5, worn_gain=2.0, worn_classes=(1, 3, 900), photo_balance=0.3)
    got = read_logits(logits, vectors, config, worn)
    mean, expected = logits[0].reshape(6, 5).mean(0), torch.zeros(2, 3, 4)
    for y in range(2):
        for x in range(3):
            p, q = (logits[0, y, x] + mean).softmax(0), (logits[0, y, x] + 3 * mean).softmax(0)
            share = min(1.0, 2 * float(p[1] + p[3]))
            named = torch.nn.functional.normalize(q @ vectors, dim=0) * (p @ vectors).norm() ** 1.5
            expected[y, x] = (1 - share) * named + share * worn
    strongest = expected.norm(dim=2).flatten().quantile(0.98)
    torch.testing.assert_close(got[0], expected * (0.5 / strongest) ** 0.3)


def test_balance_changes_the_names_and_not_their_strength():
    torch.manual_seed(2)
    logits, vectors = torch.randn(1, 2, 3, 5), torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    got = read_logits(logits, vectors, ConseConfig(class_balance=0.5))
    mean, crowding = logits[0].reshape(6, 5).mean(0), class_crowding(vectors)
    for y in range(2):
        for x in range(3):
            strength = ((logits[0, y, x] + mean).softmax(0) @ vectors).norm()
            name = (logits[0, y, x] + 3 * mean - 0.5 * crowding).softmax(0) @ vectors
            torch.testing.assert_close(got[0, y, x], strength * name / name.norm())


def test_name_vector_points_from_the_mean(labels):
    name = labels.names[1]
    expected = labels.vectors[1] - labels.vectors.mean(0)
    np.testing.assert_allclose(name_vector(labels, name), expected / np.linalg.norm(expected), rtol=1e-6)
    with pytest.raises(ZerosegError, match="no such name"):
        name_vector(labels, "no such name")
