"""Every kind of tower against open_clip itself, every reading against NumPy written from its formula."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")
pytest.importorskip("timm")

from tests.dense import tiny_towers  # noqa: E402
from zeroseg.dense.reading import Layout  # noqa: E402
from zeroseg.dense.readings import READINGS, gaussian  # noqa: E402
from zeroseg.dense.towers import read_tower  # noqa: E402
from zeroseg.errors import ZerosegError  # noqa: E402

EXACT = {"atol": 1e-5, "rtol": 0}
VITS = [kind for kind in tiny_towers.TOWERS if kind not in ("resnet", "mobileclip")]


def images(count=2, side=64):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", tiny_towers.TOWERS)
def test_ordinary_attention_gives_encode_image(kind):
    model = tiny_towers.make(kind)
    x = images(2, 128 if kind == "resnet" else 64)
    expected = tiny_towers.make(kind, image_size=x.shape[-1]) if kind == "resnet" else model
    expected = torch.nn.functional.normalize(expected.encode_image(x), dim=-1)
    visual = tiny_towers.make(kind, image_size=x.shape[-1]).visual if kind == "resnet" else model.visual
    places, embedding = read_tower(visual)(x)
    torch.testing.assert_close(embedding, expected, **EXACT)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # the witness sees the image
    side = x.shape[-1] // (32 if kind in ("resnet", "mobileclip") else 16)
    assert places.shape == (2, side, side, expected.shape[1])
    assert places.flatten(1, 2).std(1).mean() > 1e-3
    torch.testing.assert_close(places.norm(dim=-1), torch.ones(2, side, side))


@pytest.mark.parametrize("kind", ["class-token", "timm-class-token"])
@pytest.mark.parametrize(("height", "width"), [(112, 112), (96, 64), (64, 64), (32, 160)])
def test_positions_of_clip_are_resized_as_for_the_published_figures(kind, height, width):
    """Those of a class-token tower: with PyTorch's own resizing, bicubic at the scale (new + 0.1) / old."""
    visual = tiny_towers.make(kind).visual
    tower, x = read_tower(visual), torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(5))
    got = tower(x)[1]
    rows, columns = height // 16, width // 16
    trained = visual.positional_embedding if kind == "class-token" else visual.trunk.pos_embed[0]
    places = trained[1:].view(1, 4, 4, -1).permute(0, 3, 1, 2)
    if (rows, columns) != (4, 4):
        scale = ((rows + 0.1) / 4, (columns + 0.1) / 4)
        places = torch.nn.functional.interpolate(places, scale_factor=scale, mode="bicubic")
    positions = torch.cat([trained[:1], places[0].flatten(1).T])
    if kind == "class-token":
        tokens = torch.cat([visual.class_embedding[None, None], visual.conv1(x).flatten(2).mT], 1) + positions
        expected = visual.ln_post(visual.transformer(visual.ln_pre(tokens))[:, 0]) @ visual.proj
    else:
        trunk = visual.trunk
        tokens = torch.cat([trunk.cls_token, trunk.patch_embed.proj(x).flatten(2).mT], 1) + positions
        expected = visual.head(trunk.forward_head(trunk.norm(trunk.blocks(trunk.norm_pre(tokens)))))
    torch.testing.assert_close(got, torch.nn.functional.normalize(expected, dim=-1), **EXACT)


@pytest.mark.parametrize("kind", ["attention"])
def test_positions_of_others_are_resized_as_open_clip_resizes_a_checkpoint_s(kind):
    """The same weights loaded by open_clip into a model of another image size."""
    small = tiny_towers.make(kind)
    large = open_clip.model.CLIP(
        **{**tiny_towers.config(kind), "vision_cfg": tiny_towers.TOWERS[kind] | {"image_size": 112}}
    ).eval()
    state = small.state_dict()
    open_clip.model.resize_pos_embed(state, large)
    large.load_state_dict(state)
    x = images(1, 112)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(large.encode_image(x), dim=-1)
        torch.testing.assert_close(read_tower(small.visual, window=112)(x)[1], expected, **EXACT)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 80)])
def test_rotary_positions_follow_the_size_of_the_image_as_in_timm(height, width):
    """timm's own network made for that size, with the absolute positions that are resized beside the rotary ones."""
    tower, x = read_tower(tiny_towers.make("rotary").visual), torch.randn(1, 3, height, width)
    trunk = tiny_towers.make("rotary").visual.trunk
    trunk.set_input_size(img_size=(height, width))
    expected = torch.nn.functional.normalize(trunk(x), dim=-1)
    torch.testing.assert_close(tower(x)[1], expected, **EXACT)


@pytest.mark.parametrize(
    ("arch", "kind", "reading"),
    [
        ("ViT-B-16-SigLIP2", "TimmVit", "naclip"),
        ("PE-Core-T-16-384", "EvaVit", "naclip"),
        ("MobileCLIP2-S0", "FastVit", "sclip"),
        ("MobileCLIP2-B", "TimmVit", "sfp"),
        ("ViT-B-16", "OpenClipVit", "sfp"),
        ("coca_ViT-B-32", "OpenClipVit", "naclip"),
    ],
)
def test_architectures_of_open_clip_and_their_default_reading(arch, kind, reading):
    """The towers as open_clip makes them, without memory for their weights."""
    config = open_clip.get_model_config(arch)
    with torch.device("meta"):
        visual = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"])
    tower = read_tower(visual)
    assert (type(tower).__name__, tower.reading) == (kind, reading)


def test_timm_positions_are_resized_as_timm_does():
    small, x = tiny_towers.make("siglip"), images(1, 112)
    trunk = tiny_towers.make("siglip").visual.trunk
    trunk.set_input_size(img_size=(112, 112))
    expected = torch.nn.functional.normalize(trunk(x), dim=-1)
    torch.testing.assert_close(read_tower(small.visual, window=112)(x)[1], expected, **EXACT)


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps) * norm.weight.numpy() + norm.bias.numpy()


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def places_by_formula(visual, x, name, rows, columns):
    """The last block of a class-token tower, head by head, for tokens x (L, C); returns (h w, D) unit rows."""
    block = visual.transformer.resblocks[-1]
    width, heads = x.shape[1], block.attn.num_heads
    size = width // heads
    packed = layer_norm(x, block.ln_1) @ block.attn.in_proj_weight.numpy().T + block.attn.in_proj_bias.numpy()
    query, key, value = packed[:, :width], packed[:, width : 2 * width], packed[:, 2 * width :]
    near = np.zeros((len(x), len(x)))
    for i in range(rows * columns):
        for j in range(rows * columns):
            squared = (i // columns - j // columns) ** 2 + (i % columns - j % columns) ** 2
            near[1 + i, 1 + j] = math.exp(-squared / (2 * 5.0**2))
    mixed = np.empty_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = query[:, part], key[:, part], value[:, part]
        qq, kk = q @ q.T / math.sqrt(size), k @ k.T / math.sqrt(size)
        mixed[:, part] = {
            "maskclip": v,
            "sclip": (softmax(qq) + softmax(kk)) @ v,
            "clearclip": softmax(qq) @ v,
            "naclip": softmax(kk + near) @ v,
        }[name]
    out = mixed @ block.attn.out_proj.weight.numpy().T + block.attn.out_proj.bias.numpy()
    if name in ("maskclip", "sclip"):  # the two that keep residual and feed-forward
        out = x + out
        hidden = gelu(layer_norm(out, block.ln_2) @ block.mlp.c_fc.weight.numpy().T + block.mlp.c_fc.bias.numpy())
        out = out + hidden @ block.mlp.c_proj.weight.numpy().T + block.mlp.c_proj.bias.numpy()
    places = layer_norm(out[1:], visual.ln_post) @ visual.proj.numpy()
    return places / np.linalg.norm(places, axis=1, keepdims=True)


@pytest.mark.parametrize("name", [name for name, reading in READINGS.items() if not reading.levels])
def test_reading_equals_its_formula_in_numpy(name):
    visual = tiny_towers.make("class-token").visual
    tower, x = read_tower(visual, name), images()
    tokens = tower.stem(x).double().numpy()
    got = tower(x)[0].flatten(1, 2).numpy()
    for one, expected in zip(got, (places_by_formula(visual, t, name, 4, 4) for t in tokens), strict=True):
        np.testing.assert_allclose(one, expected, atol=2e-6)


@pytest.mark.parametrize("kind", VITS)
def test_readings_differ_from_each_other(kind):
    names = read_tower(tiny_towers.make(kind).visual).readings
    seen = {name: read_tower(tiny_towers.make(kind).visual, name)(images())[0] for name in names}
    names = list(seen)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert (seen[first] - seen[second]).abs().max() > 1e-4, (first, second)


@pytest.mark.parametrize(
    "kind", ["attention", "siglip", "timm-mean", "mean", "mean-after-norm", "timm-class-token", "rotary"]
)
def test_a_place_is_read_by_the_tower_s_own_pooling_of_one_token(kind):
    tower = read_tower(tiny_towers.make(kind).visual, "maskclip")
    x = torch.randn(1, 5, 24 if "timm" in kind or kind in ("siglip", "rotary") else 32)
    got = tower.place_head(x)[0]
    for token, place in zip(x[0], got, strict=True):
        alone = token[None, None]
        if kind in ("mean", "mean-after-norm", "timm-mean"):  # the mean leaves out the class token or registers
            alone = alone.repeat(1, 1 + tower.prefix, 1)
        torch.testing.assert_close(place, tower.pooled(alone)[0], **EXACT)


def test_mobileclip_places_average_to_the_image():
    """Its head is linear on the mean over places: with the ordinary attention the two are the same."""
    from zeroseg.dense.readings import ORDINARY

    tower = read_tower(tiny_towers.make("mobileclip").visual)
    after = tower.last(tower.stem(images()), ORDINARY, tower.layout)
    torch.testing.assert_close(tower.place_head(after).mean(1), tower.pooled(after), **EXACT)
    assert tower.reading == "sclip"


def test_resnet_place_is_the_pool_s_value_path():
    model = tiny_towers.make("resnet", image_size=128)
    tower, x = read_tower(model.visual), images(1, 128)
    assert tower.reading == "maskclip"
    pool = model.visual.attnpool
    features = model.visual.layer4(model.visual.layer3(model.visual.layer2(model.visual.layer1(model.visual.stem(x)))))
    place = features[0, :, 2, 1].double().numpy()
    value = pool.v_proj.weight.double().numpy() @ place + pool.v_proj.bias.double().numpy()
    expected = pool.c_proj.weight.double().numpy() @ value + pool.c_proj.bias.double().numpy()
    np.testing.assert_allclose(tower(x)[0][0, 2, 1].numpy(), expected / np.linalg.norm(expected), atol=1e-5)


def test_names_of_readings_are_those_that_a_model_name_may_ask_for():
    from zeroseg.dense import spec

    assert tuple(READINGS) == spec.READINGS


def test_gaussian_is_one_at_home_and_leaves_the_class_token_alone():
    weights = gaussian(Layout(1, (2, 3)))
    assert weights.shape == (7, 7) and not weights[0].any() and not weights[:, 0].any()
    assert torch.equal(weights.diagonal()[1:], torch.ones(6))
    assert weights[1, 6] == pytest.approx(math.exp(-5 / 50))  # from (0, 0) to (1, 2)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "class-token",
            {"reading": "best"},
            "expected one of maskclip, sclip, clearclip, naclip, scclip, sfp, got 'best'",
        ),
        ("class-token", {"window": 100}, "multiple of this tower's patch of 16 pixels, got 100"),
        (
            "siglip",
            {"reading": "scclip"},
            "is not possible for this tower .it has no class token",
        ),
        ("timm-mean", {"reading": "sfp"}, "it has no class token"),
        ("resnet", {"reading": "naclip"}, "is not possible for this tower .* use maskclip"),
        ("mobileclip", {"reading": "clearclip"}, "use maskclip or sclip"),
    ],
)
def test_what_a_tower_cannot_do_is_one_line(kind, options, message):
    with pytest.raises(ZerosegError, match=message) as error:
        read_tower(tiny_towers.make(kind).visual, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "vision",
    [
        {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 64},
        {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "block_type": "custom"},
    ],
)
def test_other_towers_are_refused_in_one_line(vision):
    visual = open_clip.model.CLIP(20, vision, tiny_towers.TEXT).visual
    with pytest.raises(ZerosegError, match="gives no patch embeddings, its last block is not plain") as error:
        read_tower(visual)
    assert "\n" not in str(error.value)
