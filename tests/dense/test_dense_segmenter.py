"""An open_clip model behind the same API and commands as the bundled one, against open_clip and plain loops."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")
pytest.importorskip("timm")

from tests.dense import tiny_towers  # noqa: E402
from zeroseg import Segmenter  # noqa: E402
from zeroseg.dense import text, weights  # noqa: E402
from zeroseg.dense.spec import BACKGROUND, DenseSpec, parse_spec  # noqa: E402
from zeroseg.dense.towers import read_tower  # noqa: E402
from zeroseg.errors import UnavailableError, ZerosegError  # noqa: E402
from zeroseg.words import LabelPack  # noqa: E402


@pytest.fixture
def photo():
    rng = np.random.default_rng(4)
    small = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC))


def text_by_open_clip(labels, sentences):
    """Radford et al.'s ensemble with open_clip's own functions."""
    model, tokenizer = tiny_towers.make("class-token"), open_clip.get_tokenizer("zeroseg-tiny")
    rows = []
    for label in labels:
        vectors = model.encode_text(tokenizer([sentence(label) for sentence in sentences]), normalize=True)
        mean = vectors.mean(0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("templates", [1, 7, 80])
def test_text_vectors_are_open_clip_s_ensemble(tiny, templates):
    spec = DenseSpec(*parse_spec(tiny).towers().removeprefix("open_clip:").split("/", 1), templates=templates)
    sentences = {
        1: [lambda c: f"a photo of a {c}."],
        7: open_clip.SIMPLE_IMAGENET_TEMPLATES,
        80: open_clip.OPENAI_IMAGENET_TEMPLATES,
    }[templates]
    assert len(sentences) == templates
    got = text.label_vectors(spec, ["cat", "fire_truck"])
    np.testing.assert_allclose(got, text_by_open_clip(["cat", "fire truck"], sentences), atol=1e-5)


def test_text_vectors_come_from_disk_the_second_time(tiny, text_cache, monkeypatch):
    spec = parse_spec(tiny + "@templates=1")
    first = text.label_vectors(spec, ["cat", "dog"])
    assert len(list(text_cache.iterdir())) == 1
    asked = []
    real = text.embed
    monkeypatch.setattr(text, "embed", lambda side, labels, n: asked.append(list(labels)) or real(side, labels, n))
    np.testing.assert_array_equal(text.label_vectors(spec, ["dog", "cat"]), first[::-1])
    assert asked == []
    np.testing.assert_allclose(text.label_vectors(spec, ["cow", "dog", "cow"])[1], first[1])
    assert asked == [["cow"]]
    next(text_cache.iterdir()).write_bytes(b"damaged")
    np.testing.assert_allclose(text.label_vectors(spec, ["cat", "dog"]), first, atol=1e-6)


def test_another_file_of_the_same_name_is_another_entry(tiny, tmp_path):
    path = tiny_towers.save("class-token", tmp_path, "zeroseg-moving")
    spec = parse_spec(f"open_clip:zeroseg-moving/{path}@templates=1")
    first = text.label_vectors(spec, ["cat"])
    state = torch.load(path)
    state["text_projection"] = state["text_projection"].flip(1) * 2
    path.unlink()
    torch.save(state, path)
    weights._text_sides.clear()
    assert np.abs(text.label_vectors(spec, ["cat"]) - first).max() > 1e-3


def test_label_map_equals_a_loop_over_windows_and_pixels(tiny, photo):
    """The whole way by hand: resize, windows, places, background words, bilinear to the photo, argmax."""
    from zeroseg.kernels.preprocess import preprocess

    segmenter = Segmenter.load(tiny + "@templates=1,reading=sclip,background=sky+cat").set_labels(["cat", "dog", "bus"])
    result = segmenter.segment(photo)
    model = tiny_towers.make("class-token")
    tower = read_tower(model.visual, "sclip")
    image = torch.from_numpy(preprocess(photo, (96, 128), weights.MEAN, weights.STD))  # short side: 1.5 windows
    words = text_by_open_clip(["cat", "dog", "bus", "sky"], [lambda c: f"a photo of a {c}."])  # cat was asked for
    total, cover = np.zeros((6, 8, words.shape[1])), np.zeros((6, 8))
    for y in (0, 32):
        for x in (0, 32, 64):
            places = tower(image[None, :, y : y + 64, x : x + 64])[0][0].numpy()
            total[y // 16 : y // 16 + 4, x // 16 : x // 16 + 4] += places
            cover[y // 16 : y // 16 + 4, x // 16 : x // 16 + 4] += 1
    means = (total / cover[..., None]).astype(np.float16).astype(np.float64)  # what encode() keeps: float16 values
    scores = np.einsum("hwd,nd->nhw", means, words)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(scores)[None], photo.shape[:2], mode="bilinear", align_corners=False
    )[0].numpy()
    expected = large.argmax(0)
    margin = np.sort(large, 0)
    sure = margin[-1] - margin[-2] > 1e-5
    assert sure.mean() > 0.99 and len(np.unique(expected)) > 1
    np.testing.assert_array_equal(result.label_map[sure], np.where(expected == 3, -1, expected)[sure])
    np.testing.assert_allclose(result.confidence, large.max(0), atol=1e-5)
    np.testing.assert_allclose(result.scores, scores[:3].max((1, 2)), atol=1e-5)
    for region in result.found:
        assert region.area_px == (result.label_map == region.index).sum()
        assert region.score == pytest.approx(result.scores[region.index])


def test_threshold_and_no_background(tiny, photo):
    segmenter = Segmenter.load(tiny + "@templates=1,background=none").set_labels(["cat", "dog"])
    everything = segmenter.segment(photo)
    assert (everything.label_map >= 0).all()
    middle = float(np.median(everything.confidence))
    some = segmenter.segment(photo, threshold=middle)
    np.testing.assert_array_equal(some.label_map == -1, everything.confidence < middle)


def test_default_is_sfp_with_background_words(tiny):
    segmenter = Segmenter.load(tiny)
    dense = segmenter.sidecar.dense
    assert (dense.reading, dense.window, dense.stride, dense.templates) == ("sfp", 64, 32, 80)
    assert dense.background == BACKGROUND and dense.background_vectors.shape == (26, 20)
    assert (segmenter.sidecar.input.short_side, segmenter.sidecar.stride) == (96, 16)
    assert segmenter.runner.backend == "torch"


def test_packs_of_another_space_are_refused(tiny):
    segmenter = Segmenter.load(tiny + "@templates=1,background=none")
    with pytest.raises(ValueError, match="make the pack again with that model's text tower"):
        segmenter.set_labels(LabelPack(["cat"], np.ones((1, 20), np.float32)))


def run(*arguments):
    from zeroseg.cli import main

    return CliRunner().invoke(main, list(map(str, arguments)))


def test_words_makes_a_pack_that_infer_takes(tiny, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (tmp_path / "words.txt").write_text("cat\nfire truck\n")
    model = tiny + "@templates=1"
    done = run("words", tmp_path / "words.txt", "--model", model, "-o", tmp_path / "labels.npz")
    assert done.exit_code == 0, done.output
    pack = LabelPack.load(tmp_path / "labels.npz")
    assert pack.names == ["cat", "fire truck"] and pack.space == "open_clip/zeroseg-tiny/zeroseg-tiny.pt"
    for labels, out in ((str(tmp_path / "labels.npz"), "pack"), ("cat,fire truck", "words")):
        done = run(
            "infer",
            tmp_path / "photo.png",
            "--labels",
            labels,
            "--model",
            model,
            "--out",
            tmp_path / out,
            "--save",
            "labels,json,overlay",
        )
        assert done.exit_code == 0, done.output
    first, second = (np.asarray(Image.open(tmp_path / out / "photo_labels.png")) for out in ("pack", "words"))
    np.testing.assert_array_equal(first, second)
    document = json.loads((tmp_path / "pack" / "photo.json").read_text())
    assert [label["name"] for label in document["labels"]] == ["cat", "fire truck"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:ViT-B-16", "open_clip needs ARCH/TAG or ARCH/FILE"),
        ("open_clip:ViT-B-17/openai", "no architecture 'ViT-B-17'; near it: ViT-B-1"),
        ("open_clip:ViT-B-16/no-such-tag", "no weights 'no-such-tag' for ViT-B-16; it has openai"),
        ("open_clip:ViT-B-16/nowhere.pt", "there is no file nowhere.pt"),
        (
            "open_clip:ViT-B-16/openai@reading=best,window=224",
            "expected maskclip, sclip, clearclip, naclip, scclip, sfp, got 'best'",
        ),
        ("open_clip:ViT-B-16/openai@windows=224", "no setting 'windows'; there are reading, templates"),
        ("open_clip:ViT-B-16/openai@templates=8", "templates: expected 1, 7, 80, got '8'"),
        ("open_clip:ViT-B-16/openai@window=big", "window: expected a number of pixels, got 'big'"),
    ],
)
def test_wrong_names_are_one_line(name, message):
    with pytest.raises(ZerosegError, match=message) as error:
        Segmenter.load(name)
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("cannot reach\nthe hub")

    monkeypatch.setattr(open_clip, "create_model", refuse)
    with pytest.raises(
        UnavailableError,
        match="weights of the model ViT-B-16/openai could not be downloaded; give a "
        "file, as in --model open_clip:ViT-B-16/FILE",
    ) as error:
        Segmenter.load("open_clip:ViT-B-16/openai")
    assert "\n" not in str(error.value)


def test_other_back_ends_are_refused(tiny):
    with pytest.raises(ZerosegError, match="runs on torch or torch-cuda; export it"):
        Segmenter.load(tiny, "onnxruntime")
    if not torch.cuda.is_available():
        with pytest.raises(UnavailableError, match="finds no CUDA GPU"):
            Segmenter.load(tiny + "@templates=1", "torch-cuda")
