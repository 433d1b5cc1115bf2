"""--recipe clip: CLIP read in windows, its map spread by a DINO of timm, from shards to masks, with random towers;
the targets against those of a folder of photos, windows and affinity against their formulas.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.dense import tiny_radio, tiny_towers
from tests.dense.test_helper import make_vit
from tests.training.conftest import draw_photo
from tests.training.teachers.test_parts import affinity_by_hand
from zeroseg.collection.pack import pack
from zeroseg.collection.plan import open_plan
from zeroseg.dense.helper import Helper
from zeroseg.dense.towers import read_tower
from zeroseg.errors import ZerosegError
from zeroseg.export.cli import main as export
from zeroseg.export.wrapper import ExportModel
from zeroseg.model.checkpoint import load_model
from zeroseg.photos.decode import load_image
from zeroseg.segment.prepare import network_input
from zeroseg.segment.segmenter import Segmenter
from zeroseg.training import model_card
from zeroseg.training.build_teacher import build_teacher
from zeroseg.training.gpu_hours import gpu_hours
from zeroseg.training.recipes import RECIPES, PartsConfig, TrainConfig
from zeroseg.training.teachers.build import build_parts
from zeroseg.training.teachers.described import describe, lines, zero_shot
from zeroseg.training.teachers.dino import TimmDino, middle_blocks, spread_out
from zeroseg.training.train import main
from zeroseg.words import LabelPack

VIT = "test_vit"  # timm's own test network: 6 blocks, patches of 16 px
HALF = 1e-3  # maps are rounded to float16 before the walk, targets after it
STUDENT = {
    "stem": '"test_efficientnet"',
    "image_size": 64,
    "width": 16,
    "depth": 1,
    "head_depths": "[1,1,1]",
    "heads": 2,
    "head_width": 16,
    "head_heads": 2,
    "projector_hidden": 16,
}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """Folder with the tiny CLIP's weights and VIT's; the CLIP's spec."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(3)
    save_file(timm.create_model(VIT, num_classes=0).state_dict(), folder / f"{VIT}.safetensors")
    return folder, f"open_clip:zeroseg-clip/{tiny_towers.save('class-token', folder, 'zeroseg-clip')}"


@pytest.fixture
def recipe(towers):
    """The recipe with these towers; DINO reads patches of 16 px."""
    folder, spec = towers
    config = RECIPES["clip"]
    teacher = replace(config.teacher, spec=spec, dense_short_side=96)
    parts = replace(config.parts, dino=VIT, weights=str(folder), short_side=64, dense_grid=6)
    return replace(config, teacher=teacher, parts=parts, views=replace(config.views, dense_grid=5))


def test_windows_are_the_mean_over_the_windows_that_cover_a_patch(towers):
    config = replace(RECIPES["clip"].teacher, spec=towers[1], reading="naclip", dense_short_side=96)
    windows = build_teacher(config)
    whole = build_teacher(replace(config, windows=False))
    assert windows.dense_size((120, 96)) == (96, 128) and whole.dense_size((120, 96)) == (64, 64)
    assert windows.dense_size((900, 96)) == (64, 192)  # at most twice as long, no side below a window
    assert windows.fingerprint != whole.fingerprint and "windows" not in whole.fingerprint
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    total, cover = np.zeros((2, 6, 8, 20)), np.zeros((6, 8, 1))
    for y in (0, 32):
        for x in (0, 32, 64):
            places = whole.dense(images[..., y : y + 64, x : x + 64]).numpy()
            total[:, y // 16 : y // 16 + 4, x // 16 : x // 16 + 4] += places
            cover[y // 16 : y // 16 + 4, x // 16 : x // 16 + 4] += 1
    np.testing.assert_allclose(windows.dense(images), total / cover, atol=1e-5)


def test_affinity_of_timm_s_vit_is_the_formula_on_its_blocks_tokens(towers, recipe):
    part, image = TimmDino(VIT, towers[0], 64, recipe.diffusion), Image.open(_photo(towers[0]))
    said = part.compute(image, "x", {})
    height, width = said["grid"]
    assert (height, width) == (4, 5) and middle_blocks(6) == [2, 3, 5] and middle_blocks(12) == [5, 8, 11]
    pixels = np.asarray(image.resize((80, 64), Image.Resampling.BICUBIC), np.float32) / 255
    network, tokens, caught = part.network, [], []
    handles = [block.register_forward_hook(lambda m, a, out: caught.append(out)) for block in network.blocks]
    with torch.no_grad():
        network.forward_features(torch.from_numpy((pixels - part.mean) / part.std).float().permute(2, 0, 1)[None])
        tokens = [network.norm(caught[block])[0, network.num_prefix_tokens :] for block in (2, 3, 5)]
    for handle in handles:
        handle.remove()
    wanted = affinity_by_hand(tokens, (4, 5), recipe.diffusion)
    np.testing.assert_allclose(spread_out(said["index"], said["weight"], 20), wanted, atol=1e-3)  # kept as float16


@pytest.mark.parametrize(
    ("kind", "reading"),
    [
        ("siglip", "naclip"),
        ("rotary", "naclip"),  # Perception Encoder
        ("mobileclip", "sclip"),
        ("timm-class-token", "sfp"),  # MobileCLIP2-B
        ("class-token", "proxyclip"),
        ("radio", "radseg"),
    ],
)
def test_every_family_teaches(kind, reading, towers, recipe, tmp_path, monkeypatch):
    """From the command's options to targets: a map is the tower's by its best reading, or by a helper's."""
    import json

    from zeroseg.training.photos import find_photos
    from zeroseg.training.teachers.cache import cache_targets

    monkeypatch.setattr(torch.hub, "load", lambda *names, **options: tiny_radio.make())
    radio, name, helper = kind == "radio", "zeroseg-teacher", tmp_path / "dino.pth"
    spec = "radio:c-radio_v3-b" if radio else f"open_clip:{name}/{tiny_towers.save(kind, tmp_path, name)}"
    torch.save(make_vit().state_dict(), helper)
    options = ["--helper", helper] if reading == "proxyclip" else []
    arguments = ["--recipe", "clip", "--teacher", spec, *options, "--print-config"]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    asked = TrainConfig.from_dict(json.loads(done.output)["config"]).teacher
    assert (asked.spec, asked.helper) == (spec, str(helper) if options else None)
    config = replace(recipe, teacher=replace(asked, dense_short_side=96))
    teacher = build_teacher(config.teacher)
    assert teacher.fingerprint["dense"] == reading and len(teacher.fingerprint.get("helper", "")) in (0, 64)

    mean, std = teacher.mean, teacher.std
    visual = tiny_radio.make() if radio else tiny_towers.make(kind).visual
    tower = read_tower(
        visual, helper=Helper(make_vit(), mean.flatten().tolist(), std.flatten().tolist()) if options else None
    )
    crops = torch.rand(2, 3, teacher.view_size, teacher.view_size, generator=torch.Generator().manual_seed(1))
    places, embeddings = tower((crops - mean) / std)
    torch.testing.assert_close(teacher.dense(crops), places, atol=1e-5, rtol=0)
    torch.testing.assert_close(teacher.embed(crops), embeddings, atol=1e-5, rtol=0)

    for i in range(2):
        draw_photo(tmp_path / "photos" / f"{i}.png", i, (80, 64))
    targets = cache_targets(find_photos(tmp_path / "photos"), teacher, config, tmp_path / "cache", progress=False)
    dense = np.asarray(targets.dense, np.float32)
    assert dense.shape == (2, 5, 5, teacher.dim) and np.isfinite(dense).all() and np.abs(dense[0] - dense[1]).max() > 0


def test_a_helper_is_one_of_the_teachers_and_is_counted():
    config = RECIPES["clip"].set("teacher.helper", "dinov2_vits14")
    text = "\n".join(lines(config))
    assert "dinov2_vits14: says which patches share the teacher's values; supervised by: no labels" in text
    assert "unknown to zeroseg" in "\n".join(lines(config.set("teacher.helper", "/home/me/vit.pth")))
    assert "/home" not in "\n".join(lines(config.set("teacher.helper", "/home/me/vit.pth")))
    alone, helped = (gpu_hours(c.set("views.dense_grid", 5), None).flops for c in (RECIPES["clip"], config))
    # 6 windows of 16 x 16 patches and a class token: 12 blocks of width 384, and the patches' embedding
    tokens, width = 257, 384
    block = tokens * width * width * 12 + 2 * tokens * tokens * width
    expected = 6 * 2 * (12 * block + 256 * width * 14 * 14 * 3)
    assert helped["dinov2_vits14"] == pytest.approx(expected, rel=0.01) and "dinov2_vits14" not in alone


def _photo(folder):
    path = folder / "photo.png"
    draw_photo(path, 4, (80, 64))
    return path


def test_from_shards_to_masks_of_words(towers, stem_file, tmp_path, recipe, monkeypatch):
    folder, spec = towers
    # tokens that differ from the start: four steps do not part a student's segments, and the gate would not judge it
    draw = torch.nn.init.trunc_normal_
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda x, std: draw(x, std=50 * std, a=-9, b=9))
    for i in range(10):
        draw_photo(tmp_path / "photos" / f"{i}.jpg", i, (80, 64) if i % 3 else (64, 96))
    shards, out = tmp_path / "shards", tmp_path / "run"
    shards.mkdir()
    pack(open_plan(shards, [tmp_path / "photos"], 5))
    settings = {f"model.{name}": value for name, value in STUDENT.items()} | {
        "teacher.dense_short_side": 96,
        "parts.dino": f'"{VIT}"',
        "parts.short_side": 64,
        "parts.dense_grid": 6,
        "views.dense_grid": 5,
        "crops.sizes": "[[64,64]]",
        "val_photos": 1,
    }
    arguments = ["--recipe", "clip", "--photos", shards, "--out", out, "--teacher", spec, "--helper-weights", folder]
    arguments += ["--stem-weights", stem_file, "--batch", 4, "--epochs", 2, "--precision", "fp32", "--device", "cpu"]
    arguments += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output

    # the cached targets are the walk over the windows' map
    from zeroseg.training.photos import find_photos
    from zeroseg.training.teachers.cache import cache_targets

    teacher = build_teacher(recipe.teacher)
    alone = cache_targets(find_photos(tmp_path / "photos"), teacher, recipe, tmp_path / "alone", progress=False)
    kept = [np.fromfile(path, np.float16) for path in sorted((shards / "cache").glob("*/targets-*/dense.bin"))]
    np.testing.assert_allclose(np.concatenate(kept), np.asarray(alone.dense).ravel(), atol=HALF, rtol=0)

    # through the gate of the export; words then find segments in CLIP's space, with the masks of the network
    onnx = tmp_path / "model.onnx"
    photos = [part for i in (1, 2, 3) for part in ("--photo", str(tmp_path / "photos" / f"{i}.jpg"))]
    done = CliRunner().invoke(export, [str(out / "model.pt"), "--onnx", "-o", str(onnx), *photos])
    assert done.exit_code == 0, done.output
    space = f"open_clip/zeroseg-clip/{Path(spec).name}"
    vectors = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    segmenter = Segmenter.load(onnx).set_labels(LabelPack(["a", "b", "c"], vectors, space))
    photo = load_image(tmp_path / "photos" / "1.jpg")
    model, _ = load_model(out / "model.pt")
    with torch.no_grad():
        maps, embeddings, _ = ExportModel(model)(torch.from_numpy(network_input(photo, segmenter.sidecar))[None])
        large = torch.nn.functional.interpolate(maps, photo.shape[:2], mode="bilinear")[0]
        words = torch.nn.functional.cosine_similarity(embeddings[0][:, None], torch.from_numpy(vectors), dim=2).argmax(
            1
        )
    got = segmenter.segment(photo, -1.0, edges=False).label_map
    assert (got == words[large.argmax(0)].numpy()).mean() > 0.99  # float32 ties between segments


def test_every_supervision_of_the_recipe_is_named():
    text = "\n".join(lines(RECIPES["clip"]))
    assert "image-text pairs" in text and "no labels (self-supervised on images)" in text and "ImageNet" in text
    assert "NOT zero-shot" not in text and "stem starts from ImageNet's class labels" in text
    assert "saliency" not in text
    sidecar = {"name": "x", "embedding_space": "y", "embedding_dim": 2, "segments": 8, "threshold": 0.1}
    sidecar["input"] = {"short_side": 288, "multiple": 32}
    card = model_card.card({"config": RECIPES["clip"].to_dict(), "inputs": {}}, sidecar)
    assert "the walk's constants, with an ImageNet classifier" in card and "box weight" not in card
    assert all(item.supervised_by in card for item in describe(RECIPES["clip"]))
    unknown = RECIPES["clip"].set("parts.dino", "vit_base_patch16_224")
    assert "unknown to zeroseg" in describe(unknown)[1].supervised_by
    assert zero_shot(RECIPES["clip"].set("stem_pretrained", False)).startswith("No class and no region")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (PartsConfig(walk=True, dino="no_such_vit"), "timm has no model 'no_such_vit'"),
        (PartsConfig(walk=True, dino="test_resnet"), "test_resnet is no plain ViT"),
        (PartsConfig(walk=True, saliency=True, dino=VIT), "does not say what stands out"),
        (PartsConfig(dino=VIT), "nothing uses its affinity"),
        (PartsConfig(walk=True), "--helper-weights"),
    ],
)
def test_a_wrong_dino_is_one_line(parts, message):
    with pytest.raises(ZerosegError, match=message) as error:
        build_parts(replace(RECIPES["clip"], parts=parts))
    assert "\n" not in str(error.value)
