"""Tiny photos drawn here, tiny networks with random weights, and label files for a classifier of ten classes."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from zeroseg.evaluation.class_names import VOC_OFFICIAL

NET = "test_efficientnet"  # timm's own test network, 0.1 M weights
NAMES = ["cat", "dog", "person", "car", "tree", "sheep", "boat", "lamp", "shirt", "hat", "road", "grass"]
DIM = 16


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


def draw_photo(path, seed: int, size=(72, 56)) -> None:
    """A background with a disc and a box in random colours and places."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(map(int, rng.integers(256, size=3))))
    draw = ImageDraw.Draw(image)
    for shape in (draw.ellipse, draw.rectangle):
        x, y = rng.integers(0, 40, 2)
        shape((int(x), int(y), int(x) + 24, int(y) + 20), fill=tuple(map(int, rng.integers(256, size=3))))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=90)
    os.utime(path, (1e9, 1e9 + seed))


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """24 photos in two folders, two sizes."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(24):
        draw_photo(root / ("a" if i % 2 else "b") / f"{i:02}.jpg", i, (72, 56) if i % 3 else (48, 64))
    return root


@pytest.fixture(scope="session")
def label_folder(tmp_path_factory):
    """names.txt, clip_vitb32_text.npy and imagenet_names.jsonl for twelve names and ten classes, one without names."""
    root = tmp_path_factory.mktemp("labels")
    (root / "names.txt").write_text("\n".join(NAMES) + "\n")
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), DIM)) + 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(root / "clip_vitb32_text.npy", vectors.astype(np.float16))
    rows = [{"index": c, "names": [[NAMES[c], 0], [NAMES[(c + 3) % 12], 2]] if c != 7 else []} for c in range(10)]
    (root / "imagenet_names.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return root


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """test_efficientnet.safetensors with ten classes, random weights."""
    import timm
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(3)
    save_file(timm.create_model(NET, num_classes=10).state_dict(), root / f"{NET}.safetensors")
    return root


@pytest.fixture(scope="session")
def stem_file(tmp_path_factory):
    """The same network with 1000 classes, as the student's stem starts from."""
    import timm
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("stem") / "stem.safetensors"
    torch.manual_seed(4)
    save_file(timm.create_model(NET, num_classes=1000).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def voc(tmp_path_factory):
    """Four photos with masks of background, cat and dog."""
    root = tmp_path_factory.mktemp("voc")
    (root / "masks").mkdir()
    for i in range(4):
        draw_photo(root / "images" / f"{i}.jpg", 50 + i)
        mask = np.zeros((56, 72), np.uint8)
        mask[10:30, 8:40], mask[30:50, 30:60], mask[0] = 8, 12, 255
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def voc_pack(tmp_path_factory):
    """A label pack of VOC's names, with random vectors of DIM."""
    path = tmp_path_factory.mktemp("pack") / "voc.npz"
    np.savez(
        path,
        names=np.array(VOC_OFFICIAL),
        space=np.array("openai/clip-vit-base-patch32"),
        vectors=np.random.default_rng(2).normal(size=(20, DIM)).astype(np.float32),
    )
    return path


@pytest.fixture
def labels(label_folder):
    from zeroseg.training.conse import load_label_space

    return load_label_space(
        label_folder / "names.txt",
        label_folder / "clip_vitb32_text.npy",
        label_folder / "imagenet_names.jsonl",
        "test/space",
    )


@pytest.fixture
def teacher_config(teacher_folder):
    from zeroseg.training.recipes import ConseConfig, TeacherConfig

    return TeacherConfig(
        f"timm:{NET}",
        weights=str(teacher_folder),
        view_size=32,
        dense_short_side=64,
        conse=ConseConfig(worn_classes=(8, 9)),
    )


@pytest.fixture
def dense_config(teacher_config):
    """The dense recipe, small enough for a second."""
    from dataclasses import replace

    from zeroseg.training.recipes import RECIPES, CropConfig, DiffusionConfig, LossWeights, ViewConfig

    tiny = {
        "stem": NET,
        "image_size": 64,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "head_width": 16,
        "head_heads": 2,
        "group_tokens": [6, 4],
        "output_groups": [6, 4],
        "projector_hidden": 24,
        "readout": "projector",
    }
    return replace(
        RECIPES["dense"],
        model=tiny,
        teacher=teacher_config,
        views=ViewConfig((), 4),
        epochs=3,
        batch=8,
        warmup_epochs=1,
        crops=CropConfig(sizes=((64, 64), (64, 96))),
        stem_views=2,
        val_photos=2,
        precision="fp32",
        lr=1e-2,
        min_lr=0.0,
        diffusion=DiffusionConfig(),
        losses=LossWeights(group_variance=1.0, segment_name=1.0, place=1.0),
    )


@pytest.fixture
def inputs(photo_folder, label_folder, stem_file, tmp_path_factory, tmp_path):
    """Inputs of a run; the cache is shared by all tests."""
    from zeroseg.training.distill import Inputs

    cache = tmp_path_factory.getbasetemp() / "shared-cache"
    return Inputs(
        photos=str(photo_folder),
        run=str(tmp_path / "run"),
        cache=str(cache),
        label_names=str(label_folder / "names.txt"),
        label_vectors=str(label_folder / "clip_vitb32_text.npy"),
        class_names=str(label_folder / "imagenet_names.jsonl"),
        label_space="test/space",
        stem_weights=str(stem_file),
    )


@pytest.fixture
def prototypes(dense_config, inputs, stem_file, tmp_path):
    """Settings and inputs of a student with a readout of prototypes; its teacher has the stem's thousand classes."""
    from dataclasses import replace

    from zeroseg.training.recipes import ConseConfig

    (tmp_path / f"{NET}.safetensors").write_bytes(stem_file.read_bytes())
    with open(inputs.class_names, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    lines = [json.dumps(rows[c % 10] | {"index": c}) for c in range(1000)]
    (tmp_path / "classes.jsonl").write_text("\n".join(lines))
    conse = ConseConfig(worn_gain=2.0, strength_power=1.5, photo_balance=0.3)
    teacher = replace(dense_config.teacher, weights=str(tmp_path), conse=conse)
    model = dense_config.model | {"readout": "prototypes"}
    config = replace(dense_config, teacher=teacher, model=model, epochs=1.0)
    return config, replace(inputs, class_names=str(tmp_path / "classes.jsonl"))
