"""A helper's likeness of patches in place of the last block's attention: ProxyCLIP's formula in NumPy, the helper's
files, and the whole way of a photo.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")

from tests.dense import tiny_towers  # noqa: E402
from zeroseg import Segmenter  # noqa: E402
from zeroseg.dense.helper import HELPERS, Helper, load_helper  # noqa: E402
from zeroseg.dense.proxy import proxy  # noqa: E402
from zeroseg.dense.towers import read_tower  # noqa: E402
from zeroseg.errors import UnavailableError, ZerosegError  # noqa: E402
from zeroseg.words import LabelPack  # noqa: E402

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)  # of the tower's images


def make_vit(**options):
    """A tiny ViT with patches of 8 pixels whose features differ from place to place."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(5)
    sizes = {"img_size": 64, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 0}
    vit = VisionTransformer(**sizes, **options).eval().requires_grad_(False)
    tiny_towers.draw(vit, gain=2)
    return vit


def photos(height=64, width=64):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(9))


def features_of(vit, image):
    """(B, h w, C) by timm's own forward pass, of an image normalised with MEAN and STD."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    own_mean, own_std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = vit.forward_features((image * std + mean - own_mean) / own_std)[:, vit.num_prefix_tokens :]
    return torch.nn.functional.normalize(x, dim=2)


def stretched(v, old, new):
    """v (h w, d) on the grid `new`: bilinear between the centres of places, one place at a time."""
    out = []
    for row in range(new[0]):
        for column in range(new[1]):
            near = []
            for index, before, after in ((row, old[0], new[0]), (column, old[1], new[1])):
                at = min(max((index + 0.5) * before / after - 0.5, 0), before - 1)
                low = int(at)
                near.append([(low, 1 - (at - low)), (min(low + 1, before - 1), at - low)])
            out.append(sum(a * b * v[y * old[1] + x] for y, a in near[0] for x, b in near[1]))
    return np.array(out)


def places_by_formula(visual, x, f, old, new):
    """Tokens x (L, C) before the last block of a class-token tower, helper features f (M, D) -> (M, D) unit rows."""
    block = visual.transformer.resblocks[-1]
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + block.ln_1.eps)
    normed = normed * block.ln_1.weight.numpy() + block.ln_1.bias.numpy()
    width = x.shape[1]
    v = normed @ block.attn.in_proj_weight.numpy()[2 * width :].T + block.attn.in_proj_bias.numpy()[2 * width :]
    alike = f @ f.T
    alike = 3.0 * (alike - 1.2 * alike.mean())
    weights = np.where(alike < 0, 0, np.exp(alike))
    weights /= weights.sum(1, keepdims=True)
    out = weights @ stretched(v[1:], old, new)  # every head has the same weights
    out = out @ block.attn.out_proj.weight.numpy().T + block.attn.out_proj.bias.numpy()
    centred = out - out.mean(-1, keepdims=True)
    out = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + visual.ln_post.eps)
    places = (out * visual.ln_post.weight.numpy() + visual.ln_post.bias.numpy()) @ visual.proj.numpy()
    return places / np.linalg.norm(places, axis=1, keepdims=True)


def test_places_equal_the_formula_in_numpy():
    visual, vit = tiny_towers.make("class-token").visual, make_vit()
    tower, image = read_tower(visual, helper=Helper(vit, MEAN, STD)), photos()
    plain = read_tower(tiny_towers.make("class-token").visual)
    assert (tower.reading, tower.patch, tower.place, tower.multiple, tower.window) == ("proxyclip", 16, 8, 16, 64)
    got, embedding = tower(image)
    assert got.shape == (2, 8, 8, 20)
    torch.testing.assert_close(embedding, plain(image)[1], atol=1e-6, rtol=0)
    features = features_of(vit, image).double().numpy()
    for i, tokens in enumerate(tower.stem(image).double().numpy()):
        expected = places_by_formula(visual, tokens, features[i], (4, 4), (8, 8))
        np.testing.assert_allclose(got[i].flatten(0, 1).numpy(), expected, atol=3e-6)


def test_features_that_are_alike_everywhere_share_equally():
    reading = proxy(torch.ones(1, 4, 3) / 3**0.5, (2, 2))
    v = torch.arange(8.0).view(1, 1, 4, 2)
    from zeroseg.dense.reading import Layout

    torch.testing.assert_close(reading.mix(v, v, v, 1.0, Layout(0, (2, 2))), v.mean(2, keepdim=True).expand_as(v))


@pytest.mark.parametrize(
    "options",
    [{}, {"init_values": 0.5}, {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.5}],
    ids=["dino", "dinov2", "registers"],
)
def test_a_file_gives_the_features_of_its_network(options, tmp_path):
    """State dicts as DINO's and DINOv2's repositories write them: positions for the class token too, other names."""
    vit = make_vit(**options)
    state = dict(vit.state_dict())
    if "reg_token" in state:  # DINOv2's: registers have no position, the class token has one
        state["register_tokens"] = state.pop("reg_token")
        first = torch.randn(1, 1, 64)
        state["cls_token"] = state["cls_token"] - first
        state["pos_embed"] = torch.cat([first, state["pos_embed"]], 1)
    state |= {"mask_token": torch.zeros(1, 64), "head.weight": torch.zeros(3, 64)}
    torch.save({"teacher": {f"backbone.{name}": value for name, value in state.items()}}, tmp_path / "dino.pth")
    got, grid = load_helper(str(tmp_path / "dino.pth"), MEAN, STD)(photos())
    assert grid == (8, 8)
    torch.testing.assert_close(got, features_of(vit, photos()), atol=1e-5, rtol=0)


def test_a_named_helper_gets_images_as_it_was_trained_on(monkeypatch):
    """TIPS takes pixels from 0 to 1; its weights are stubbed by a small ViT with one register, as it has."""
    vit = make_vit(reg_tokens=1, no_embed_class=True, init_values=0.5)
    vit.pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    asked = []
    monkeypatch.setattr(timm, "create_model", lambda name, **options: asked.append(name) or vit)
    got, _ = load_helper("tipsv2_vitb14", MEAN, STD)(photos())
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    expected = torch.nn.functional.normalize(vit.forward_features(photos() * std + mean)[:, 2:], dim=2)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert asked == ["vit_base_patch14_reg1_tipsv2.webli"]


def test_positions_of_another_size_are_resized_as_dino_does():
    vit = make_vit()
    places = vit.pos_embed[:, 1:].unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    places = torch.nn.functional.interpolate(places, scale_factor=(4.1 / 8, 6.1 / 8), mode="bicubic")
    expected = torch.cat([vit.pos_embed[:, :1], places.flatten(2).transpose(1, 2)], 1)
    tokens = torch.cat([vit.cls_token.expand(2, -1, -1), vit.patch_embed.proj(photos(32, 48)).flatten(2).mT], 1)
    tokens = tokens + expected
    torch.testing.assert_close(Helper(vit).tokens(photos(32, 48), (4, 6), False), tokens, atol=1e-5, rtol=0)


def test_a_photo_s_whole_way_has_the_helper_s_places(tiny, tmp_path):
    torch.save(make_vit().state_dict(), tmp_path / "dino.pth")
    name = f"{tiny}@helper={tmp_path / 'dino.pth'},templates=1,background=none,short_side=64,stride=24"
    segmenter = Segmenter.load(name)
    sidecar, dense = segmenter.sidecar, segmenter.sidecar.dense
    assert (sidecar.stride, dense.multiple, dense.stride, dense.reading) == (8, 16, 24, "proxyclip")
    assert str(tmp_path) not in str(sidecar.to_dict())
    rows = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    pack = LabelPack(["a", "b", "c"], rows / np.linalg.norm(rows, axis=1, keepdims=True), sidecar.embedding_space)
    photo = np.random.default_rng(1).integers(0, 256, (64, 88, 3), dtype=np.uint8)
    result = segmenter.set_labels(pack).segment(photo)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (sidecar.input.mean, sidecar.input.std))
    image = torch.from_numpy((photo.transpose(2, 0, 1) / np.float32(255) - mean) / std)[None]
    first, second = (segmenter.runner.tower(image[..., x : x + 64])[0][0].numpy() for x in (0, 24))
    total, cover = np.zeros((8, 11, 20)), np.zeros((1, 11, 1))
    for places, x in ((first, 0), (second, 3)):
        total[:, x : x + 8] += places
        cover[:, x : x + 8] += 1
    np.testing.assert_allclose(result.place_scores, np.moveaxis(total / cover @ pack.vectors.T, 2, 0), atol=2e-3)


def test_what_a_helper_cannot_do_is_one_line(tiny, tmp_path, monkeypatch):
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")

    def refuse(*args, **options):
        raise RuntimeError("cannot reach\nthe hub")

    monkeypatch.setattr(timm, "create_model", refuse)
    cases = [
        ("@helper=dinov4", ZerosegError, "helper: expected one of dino_vits16, .* or a file with the weights of"),
        ("@helper=", ZerosegError, "helper: expected a name or a file, as in helper=dino_vitb8"),
        ("@helper=dino_vitb8,reading=sclip", ZerosegError, "replaces the reading; leave out reading=sclip"),
        (
            "@helper=dino_vitb8",
            UnavailableError,
            "weights of the helper dino_vitb8 could not be downloaded; give a file",
        ),
        (f"@helper={tmp_path}/text.pth", ZerosegError, "helper text.pth: expected the state dict of a plain ViT"),
        (f"@helper={tmp_path}/other.pth", ZerosegError, "it has no blocks.0.mlp.fc1.weight, cls_token, patch_embed"),
    ]
    for settings, kind, message in cases:
        with pytest.raises(kind, match=message) as error:
            Segmenter.load(tiny + settings)
        assert "\n" not in str(error.value)
    with pytest.raises(ZerosegError, match="helper: is not possible for this tower .its only attention is the pool"):
        read_tower(tiny_towers.make("resnet").visual, helper=Helper(make_vit()))
    with pytest.raises(ZerosegError, match="multiple of this tower.s patch of 16 pixels, got 24"):
        read_tower(tiny_towers.make("class-token").visual, window=24, helper=Helper(make_vit()))
    assert all(timm.is_model(name.partition(".")[0]) for name in HELPERS.values())
