"""RADIO with RADSeg's reading, on a small stand-in: the formula in NumPy, its text side, the teacher, and refusals."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("open_clip")

from tests.dense import tiny_radio  # noqa: E402
from zeroseg import Segmenter  # noqa: E402
from zeroseg.dense import weights  # noqa: E402
from zeroseg.dense.towers import read_tower  # noqa: E402
from zeroseg.errors import UnavailableError, ZerosegError  # noqa: E402


@pytest.fixture
def hub(monkeypatch):
    """torch.hub that gives the stand-in; the arguments of its calls."""
    calls = []

    def load(*names, **options):
        calls.append((names, options))
        return tiny_radio.make()

    monkeypatch.setattr(torch.hub, "load", load)
    weights._text_sides.clear()
    yield calls
    weights._text_sides.clear()


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps) * norm.weight.numpy() + norm.bias.numpy()


def linear(x, layer):
    return x @ layer.weight.numpy().T + layer.bias.numpy()


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def kept(scores):
    return softmax(np.where(scores < 0, -np.inf, scores))


def places_by_formula(model, x):
    """Tokens x (L, C) before the last block -> (h w, D) unit rows: SCRA head by head, SCGA, the head."""
    block, size = model.model.blocks[-1], tiny_radio.WIDTH // tiny_radio.HEADS
    q, k, v = np.split(linear(layer_norm(x, block.norm1), block.attn.qkv), 3, 1)
    parts = [slice(head * size, (head + 1) * size) for head in range(tiny_radio.HEADS)]
    mixed = [softmax(q[:, part] @ k[:, part].T / math.sqrt(size)) @ v[:, part] for part in parts]
    out = linear(np.concatenate(mixed, 1), block.attn.proj)
    again = [kept(10 * unit(out[:, part]) @ unit(out[:, part]).T) @ v[:, part] for part in parts]
    x = x + linear(np.concatenate(again, 1), block.attn.proj)
    x = x + linear(gelu(linear(layer_norm(x, block.norm2), block.mlp.fc1)), block.mlp.fc2)
    places = x[4:]
    alike = unit(places) @ unit(places).T
    places = kept(10 * (alike - alike.mean())) @ places
    first, norm, _, last = model.adaptors["siglip2-g"].head_mlp
    return unit(linear(gelu(layer_norm(linear(places, first), norm)), last))


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (4, 4), (3, 7)])
def test_places_equal_radseg_s_formula_in_numpy(rows, columns):
    """In float64: the head's norm amplifies the rounding of patches that are much alike."""
    generator = torch.Generator().manual_seed(rows)
    model, image = tiny_radio.make().double(), torch.randn(2, 3, 16 * rows, 16 * columns, generator=generator).double()
    tower = read_tower(tiny_radio.make().double())
    got, embedding = tower(image)
    tokens = model.model.blocks[:-1](model.model.patch_generator(image))
    for i in range(2):
        expected = places_by_formula(model, tokens[i].numpy())
        np.testing.assert_allclose(got[i].flatten(0, 1).numpy(), expected, atol=5e-6)
    summary = model.adaptors["siglip2-g"].head_mlp(model.model.blocks[-1](tokens)[:, 1])
    torch.testing.assert_close(embedding, torch.nn.functional.normalize(summary, dim=1), atol=1e-5, rtol=0)
    assert got.flatten(1, 2).std(1).mean() > 1e-2


def test_a_photo_is_labelled_by_the_adaptor_s_words(hub):
    segmenter = Segmenter.load("radio:c-radio_v3-b@window=96,short_side=96,templates=1,background=none")
    ((names, options),) = hub
    assert names == ("NVlabs/RADIO", "radio_model")
    assert (options["version"], options["adaptor_names"]) == ("c-radio_v3-b", ["siglip2-g"])
    sidecar = segmenter.sidecar
    assert (sidecar.embedding_space, sidecar.dense.text) == ("radio/c-radio_v3-b", "radio:c-radio_v3-b")
    assert sidecar.input.mean == pytest.approx((0.5, 0.4, 0.3)) and sidecar.dense.reading == "radseg"
    photo = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    result = segmenter.set_labels(["cat", "dog"]).segment(photo)
    adaptor = tiny_radio.make().adaptors["siglip2-g"]
    prompts = [f"a photo of a {word}." for word in ("cat", "dog")]
    vectors = unit(adaptor.encode_text(adaptor.tokenizer(prompts)).numpy())
    image = (torch.from_numpy(photo).permute(2, 0, 1)[None] / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / (
        torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    )
    places = read_tower(tiny_radio.make())(image)[0][0].numpy()
    np.testing.assert_allclose(result.place_scores, np.moveaxis(places @ vectors.T, 2, 0), atol=2e-3)


def test_radio_is_a_teacher(hub):
    pytest.importorskip("PIL")
    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.recipes import TeacherConfig

    teacher = build_teacher(TeacherConfig("radio:c-radio_v3-b"))
    assert (teacher.view_size, teacher.dim, teacher.space) == (336, 20, "radio/c-radio_v3-b")
    assert teacher.fingerprint == {"spec": "radio:c-radio_v3-b", "view_size": 336, "dense": "radseg"}
    crops = torch.rand(1, 3, 336, 336)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))
    places, embedding = read_tower(tiny_radio.make())((crops - mean) / std)
    torch.testing.assert_close(teacher.embed(crops), embedding, atol=1e-5, rtol=0)
    torch.testing.assert_close(teacher.dense(crops), places, atol=1e-5, rtol=0)


def test_what_radio_cannot_do_is_one_line(hub, monkeypatch):
    cases = [
        ("radio:", ZerosegError, "RADIO needs a version or a file, as in radio:c-radio_v3-b"),
        ("radio:x@reading=naclip", ZerosegError, "RADIO has one reading, radseg; leave out reading and helper"),
        ("radio:x@helper=dino_vitb8", ZerosegError, "leave out reading and helper"),
        ("radio:nowhere.pth", ZerosegError, "there is no file nowhere.pth"),
    ]
    for name, kind, message in cases:
        with pytest.raises(kind, match=message) as error:
            Segmenter.load(name)
        assert "\n" not in str(error.value)
    other = tiny_radio.make()
    other.model.patch_generator.cpe_mode = False
    with pytest.raises(ZerosegError, match="RADIO: this version is no plain ViT"):
        read_tower(other)
    other = tiny_radio.make()
    other.adaptors = torch.nn.ModuleDict({"clip": tiny_radio.Adaptor()})
    with pytest.raises(ZerosegError, match="RADIO: has no adaptor siglip2-g with a text tower; it has clip"):
        read_tower(other)

    def refuse(*args, **options):
        raise RuntimeError("cannot reach\nthe hub")

    monkeypatch.setattr(torch.hub, "load", refuse)
    with pytest.raises(UnavailableError, match="RADIO c-radio_v3-b could not be downloaded; give a file") as error:
        Segmenter.load("radio:c-radio_v3-b")
    assert "\n" not in str(error.value)
