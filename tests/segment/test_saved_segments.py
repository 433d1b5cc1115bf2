"""Saved segments give the same scores and masks; any other file gives one line."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.color_model import SPACE, vectors
from zeroseg import Segmenter, ZerosegError, load_segments
from zeroseg.segment.encoded import Places, Segments
from zeroseg.sidecar import DenseInput, Scoring
from zeroseg.words import LabelPack

pytest.importorskip("onnx")

PACK = LabelPack(["lawn", "sea", "rose"], vectors("green", "blue", "red"), SPACE)


def photo(size=(90, 130)):
    rng = np.random.default_rng(0)
    return np.asarray(Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize(size[::-1]))


@pytest.fixture(scope="module")
def segmenter(color_model):
    return Segmenter.load(color_model, threads=1)


@pytest.fixture
def segments(segmenter):
    return segmenter.encode(photo())


@pytest.fixture
def places(segmenter):
    """The output of a dense network, with two background words."""
    rng = np.random.default_rng(1)
    background = rng.normal(size=(2, 512)).astype(np.float32)
    dense = DenseInput(64, 32, "naclip", "open_clip:A/B", 1, ("sky", "wall"), background)
    sidecar = replace(segmenter.sidecar, dense=dense, threshold=-1.0)
    embeddings = rng.normal(size=(512, 4, 6)).astype(np.float16).astype(np.float32)
    whole = embeddings.mean((1, 2)).astype(np.float16).astype(np.float32)
    return Places(whole, (90, 130), sidecar, image=photo(), embeddings=embeddings)


@pytest.mark.parametrize("kind", ["segments", "places"])
def test_loaded_segments_give_identical_scores_and_masks(kind, request, tmp_path):
    encoded = request.getfixturevalue(kind)
    path = encoded.save(tmp_path / "photo.npz")
    loaded = load_segments(path)
    assert type(loaded) is type(encoded) and loaded.size == (90, 130) and loaded.image is None
    np.testing.assert_array_equal(loaded.scores(PACK), encoded.scores(PACK))
    np.testing.assert_array_equal(loaded.image_embedding, encoded.image_embedding)
    with_image = load_segments(path, photo())
    for threshold, edges in ((None, True), (0.0, False), (-1, True), (-1, False)):
        one, two = (
            (with_image if edges else loaded).masks(PACK, threshold),
            encoded.masks(PACK, threshold, edges=edges),
        )
        np.testing.assert_array_equal(one.label_map, two.label_map)
        np.testing.assert_array_equal(one.confidence, two.confidence)
        assert one.found == two.found and one.threshold == two.threshold
    assert sorted(item.name for item in tmp_path.iterdir()) == ["photo.npz"]


def test_the_file_names_its_model(segments, tmp_path):
    sidecar = replace(segments.sidecar, scoring=Scoring(np.arange(512, dtype=np.float32), 0.5))
    loaded = load_segments(replace(segments, sidecar=sidecar).save(tmp_path / "photo.npz")).sidecar
    assert (loaded.name, loaded.embedding_space, loaded.threshold) == ("colors", SPACE, 0.5)
    assert loaded.files == segments.sidecar.files and len(loaded.files["colors.onnx"]) == 64
    np.testing.assert_array_equal(loaded.scoring.centre, sidecar.scoring.centre)
    assert loaded.scoring.share == 0.5


def test_a_suffix_is_added(segments, tmp_path):
    assert segments.save(str(tmp_path / "photo.jpg")) == tmp_path / "photo.jpg.npz"
    assert load_segments(tmp_path / "photo.jpg.npz").size == (90, 130)


def test_without_the_image_all_but_the_overlay_works(segments, tmp_path):
    path = segments.save(tmp_path / "photo.npz")
    result = load_segments(path).masks(PACK, -1)
    assert result.to_dict()["size"] == [90, 130] and len(result.to_coco()) == len(result.found) > 0
    assert result.label_picture().size == (130, 90)
    with pytest.raises(ZerosegError) as error:
        result.overlay()
    assert str(error.value) == "overlay: the image is missing; give it to load_segments(path, image)"


@pytest.mark.parametrize("form", ["array", "path", "picture"])
def test_with_the_image_the_overlay_is_the_same(segments, tmp_path, form):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    image = {"array": photo(), "path": tmp_path / "photo.png", "picture": Image.fromarray(photo())}[form]
    loaded = load_segments(segments.save(tmp_path / "photo.npz"), image)
    np.testing.assert_array_equal(
        np.asarray(loaded.masks(PACK, -1).overlay()), np.asarray(segments.masks(PACK, -1).overlay())
    )


def test_another_size_of_image_is_refused(segments, tmp_path):
    path = segments.save(tmp_path / "photo.npz")
    with pytest.raises(ZerosegError) as error:
        load_segments(path, photo((90, 131)))
    assert str(error.value) == f"{path}: was made from an image of 130 x 90 pixels, got 131 x 90"


def changed(segments, path, **changes):
    """The saved file with other entries; None leaves one out."""
    with np.load(segments.save(path)) as stored:
        entries = {name: stored[name] for name in stored.files} | changes
    np.savez_compressed(path, **{name: value for name, value in entries.items() if value is not None})


def changed_sidecar(segments, path, **changes):
    changed(segments, path, sidecar=np.array(json.dumps(segments.sidecar.to_dict() | changes)))


def cut_off(segments, path):
    content = segments.save(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(segments, path):
    content = bytearray(segments.save(path).read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def zip_bomb(segments, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps.npy", bytes(300 << 20))


def pickled(segments, path):
    changed(segments, path, maps=np.array([{"a": 1}], object))


FILES = [
    ("missing", lambda s, path: None, "no such file"),
    ("a folder", lambda s, path: path.mkdir(), "expected segments saved by zeroseg"),
    ("empty", lambda s, path: path.write_bytes(b""), "expected segments saved by zeroseg"),
    ("text", lambda s, path: path.write_text("no segments"), "expected segments saved by zeroseg"),
    ("cut off", cut_off, "expected segments saved by zeroseg"),
    ("changed bytes", flipped, "expected segments saved by zeroseg"),
    ("a label pack", lambda s, path: PACK.save(path), "expected segments saved by zeroseg"),
    ("one array", lambda s, path: path.write_bytes(b"\x93NUMPY\x01\x00"), "expected segments saved by zeroseg"),
    ("too large", zip_bomb, "its unpacked size is too large"),
    ("objects", pickled, "expected segments saved by zeroseg"),
    ("no kind", lambda s, path: changed(s, path, kind=None), "expected segments saved by zeroseg"),
    ("another kind", lambda s, path: changed(s, path, kind=np.array("Boxes")), "expected segments saved by zeroseg"),
    ("no size", lambda s, path: changed(s, path, size=None), "expected segments saved by zeroseg"),
    ("one side", lambda s, path: changed(s, path, size=np.int32([90])), "size: expected two positive sides"),
    ("no pixels", lambda s, path: changed(s, path, size=np.int32([0, 130])), "size: expected two positive sides"),
    ("a huge size", lambda s, path: changed(s, path, size=np.int64([10**6, 10**6])), "size: expected"),
    ("no maps", lambda s, path: changed(s, path, maps=None), "expected segments saved by zeroseg"),
    ("flat maps", lambda s, path: changed(s, path, maps=np.zeros((4, 6), np.float16)), "maps: expected"),
    ("other K", lambda s, path: changed(s, path, maps=s.maps[:3]), r"embeddings: expected \(3, 512\)"),
    ("no segments", lambda s, path: changed(s, path, maps=s.maps[:0], embeddings=s.embeddings[:0]), "expected"),
    ("text maps", lambda s, path: changed(s, path, maps=np.array(["a"])), "expected segments saved by zeroseg"),
    ("NaN", lambda s, path: changed(s, path, embeddings=s.embeddings * np.nan), "embeddings is not finite"),
    ("narrow", lambda s, path: changed(s, path, embeddings=s.embeddings[:, :9]), "embeddings: expected"),
    ("sidecar no JSON", lambda s, path: changed(s, path, sidecar=np.array("{")), "expected segments saved by zeroseg"),
    ("sidecar a list", lambda s, path: changed(s, path, sidecar=np.array("[]")), "expected a JSON object"),
    ("sidecar deep", lambda s, path: changed(s, path, sidecar=np.array("[" * 200_000)), "expected segments saved"),
    ("sidecar of format 1", lambda s, path: changed_sidecar(s, path, format=1), "format 1"),
    ("sidecar of format 3", lambda s, path: changed_sidecar(s, path, format=3), "format 3, this version"),
    ("no dense model", lambda s, path: changed(s, path, kind=np.array("Places")), "kind: Places of model colors"),
    ("other width", lambda s, path: changed_sidecar(s, path, embedding_dim=768), "expected"),
]


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_files_that_are_no_segments_end_in_one_line(segments, tmp_path, spoil, message):
    path = tmp_path / "photo.npz"
    spoil(segments, path)
    with pytest.raises(ZerosegError, match=message) as error:
        load_segments(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value) and len(str(error.value)) < 600


def test_labels_of_another_space_are_refused(segments, tmp_path):
    loaded = load_segments(segments.save(tmp_path / "photo.npz"))
    with pytest.raises((ZerosegError, ValueError), match="in someone/elses-space") as error:
        loaded.masks(LabelPack(["cat"], vectors("red"), "someone/elses-space"))
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_written_is_named(segments, tmp_path):
    (tmp_path / "photo.npz").mkdir()
    with pytest.raises(ZerosegError, match="photo.npz") as error:
        segments.save(tmp_path / "photo.npz")
    assert "\n" not in str(error.value)
    with pytest.raises(ZerosegError, match="photo.npz"):
        segments.save(tmp_path / "nowhere" / "photo.npz")


def test_a_failed_save_keeps_the_old_file(segments, tmp_path, monkeypatch):
    path = segments.save(tmp_path / "photo.npz")
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(ZerosegError, match="No space left"):
        segments.save(path)
    assert path.read_bytes() == before and [item.name for item in tmp_path.iterdir()] == ["photo.npz"]


def test_the_bundled_model_s_file_is_small(tmp_path):
    """At most 40 KB for a photo of 640 x 480."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    segments = Segmenter.load(threads=1).encode(image)
    assert isinstance(segments, Segments) and segments.maps.shape[0] == 8
    assert segments.save(tmp_path / "photo.npz").stat().st_size <= 40 * 1024
