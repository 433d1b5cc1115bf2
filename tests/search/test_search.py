"""zeroseg search: scores, masks, areas and boxes equal those of zeroseg-infer; the ranking equals a full sort."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.color_model import sidecar as sidecar_document
from tests.search.conftest import command
from zeroseg import Collection
from zeroseg.errors import ZerosegError
from zeroseg.masks import bounding_box, decode_rle
from zeroseg.search import collection as collection_module
from zeroseg.search.collection import read_root
from zeroseg.search.encoding import Batch, EncodedImage, EncodedUnit, Encoder, pack_map
from zeroseg.search.query import Alternative, Filters, parse_query
from zeroseg.search.reduced import load_reduced
from zeroseg.search.store import Store
from zeroseg.search.units import Key, Photo, Unit, list_units
from zeroseg.segment.scores import embedding_scores
from zeroseg.segment.segmenter import Segmenter
from zeroseg.sidecar import Scoring, parse_sidecar
from zeroseg.words import LabelPack

ROOT = Path(__file__).resolve().parents[2]


def test_scores_masks_areas_and_boxes_are_those_of_infer(tmp_path):
    """With the bundled model, whose scores have a fall-off: each word alone and two words, found or not."""
    pytest.importorskip("lancedb", reason="lancedb is not installed (extra search)")
    photo = ROOT / "docs" / "photos" / "pagoda.jpg"
    encoder = Encoder(None)
    store = Store(tmp_path / "c")
    store.create(encoder.segmenter.sidecar, {"sources": {}, "model": {}, "every_s": 1.0})
    store.append(encoder.part(Batch(0, tuple(list_units([str(photo)], [], 1.0)))), 0)
    collection, found = Collection.open(tmp_path / "c"), 0
    for words in ("building", "red bus", "zzyzx", "building, sky, tree"):
        wanted = encoder.segmenter.set_labels([word.strip() for word in words.split(",")]).segment(photo)
        [hit] = collection.search(words, threshold=-2)
        assert [hit.scores[name] for name in wanted.labels] == wanted.scores.tolist()
        assert hit.score == wanted.scores.max() and hit.pack.marks == wanted.marks
        shown = collection.search(words)
        assert len(shown) == (wanted.scores.max() >= encoder.segmenter.sidecar.threshold)
        for hit in shown:
            found += 1
            assert np.array_equal(hit.segmentation().label_map, wanted.label_map)
            assert np.array_equal(hit.segmentation().segment_scores, wanted.segment_scores)
            mask = wanted.label_map >= 0
            assert np.array_equal(hit.mask(), mask) and hit.share == mask.mean() and hit.box == bounding_box(mask)
    flat = encoder.segmenter.segment(photo, edges=False)
    assert np.array_equal(hit.mask(edges=False), flat.label_map >= 0) and found == 2


@pytest.fixture
def random_collection(tmp_path):
    """(collection, embeddings (M, K, D)): random segments of a model with a centre and a share."""
    pytest.importorskip("lancedb", reason="lancedb is not installed (extra search)")
    rng = np.random.default_rng(0)
    M, K, D = 240, 3, 40
    plane = rng.normal(size=(8, D))
    embeddings = rng.normal(size=(M, K, 8)) @ plane / 20 + rng.normal(size=(M, K, D)) / 600  # nearly of 8 dimensions
    embeddings = embeddings.astype(np.float16)
    sidecar = parse_sidecar(sidecar_document(embedding_dim=D, segments=K, threshold=0.1), "test")
    object.__setattr__(sidecar, "scoring", Scoring(rng.normal(size=D).astype(np.float32) / 30, 0.6))
    store = Store(tmp_path / "random")
    store.create(sidecar, {"sources": {"/photos": "photos"}, "model": {}, "every_s": 1.0})
    flat = [pack_map(np.full((2, 2), 1 / K, np.float32))] * K
    one = dict(areas=np.array([4, 0, 0]), boxes=np.zeros((K, 4), int), maps=flat, grid=(2, 2), sha256=b"")
    units = [
        EncodedUnit(
            Unit(Photo(f"{i}.jpg", f"/photos/{i}.jpg"), 1, 1),
            [EncodedImage((2, 2), embeddings[i], taken=None, position_s=None, **one)],
        )
        for i in range(M)
    ]
    for start in (0, 100, 150):
        store.append(units[start : {0: 100, 100: 150, 150: M}[start]], start)
    return Collection.open(tmp_path / "random"), embeddings.astype(np.float32)


def test_ranking_equals_a_full_sort(random_collection):
    collection, embeddings = random_collection
    scoring, t = collection.sidecar.scoring, collection.sidecar.threshold
    rng = np.random.default_rng(1)
    assert 8 < collection.state().reduced.codes.shape[1] < 40  # otherwise the bounds are not tested
    for _ in range(2):
        pack = LabelPack(["a", "b", "c"], rng.normal(size=(3, 40)), collection.sidecar.embedding_space)
        scores = embedding_scores(embeddings.reshape(-1, 40), pack.vectors, scoring)
        a, b, c = scores.reshape(240, 3, 3).max(1).T
        for text, wanted in {
            "a, b, c": np.maximum(np.maximum(a, b), c),
            "a+b, c": np.maximum(np.minimum(a, b), c),
            "a+b+c": np.minimum(np.minimum(a, b), c),
            "a -b, c": np.maximum(np.where(b < t, a, -np.inf), c),
            "b -c -a": np.where((c < t) & (a < t), b, -np.inf),
        }.items():
            query = parse_query(text)
            hits = collection.ranked(query, pack.pick(query.words), 25, threshold=-5)
            order = np.argsort(-wanted, kind="stable")[: min(25, np.isfinite(wanted).sum())]
            assert [hit.score for hit in hits] == pytest.approx(wanted[order].tolist(), abs=1e-6)
            assert sum(hit.image not in order for hit in hits) <= 1  # a tie at the last place
            few = collection.ranked(query, pack.pick(query.words), 240, threshold=t)
            assert len(few) == (wanted >= t).sum()


@pytest.mark.parametrize("width", [1.1, 0.2])  # 0.2: many values lie beyond what the codes reach
def test_bounds_hold(random_collection, monkeypatch, width):
    monkeypatch.setattr("zeroseg.search.reduced._WIDTH", width)
    collection, embeddings = random_collection
    reduced = collection.state().reduced
    assert (np.abs(reduced.codes) == 127).mean() > 0.1 if width < 1 else np.abs(reduced.codes).max() < 120
    directions = np.random.default_rng(3).normal(size=(2, 40)).astype(np.float32)
    inner, at = np.einsum("mkd,nd->nmk", embeddings, directions), np.array([200, 3, 77])
    for cosine in (False, True):
        best = (inner / np.linalg.norm(embeddings, axis=-1) if cosine else inner).max(2)
        low, high = reduced.bounds(directions, cosine)
        closer_low, closer_high = reduced.closer_bounds(directions, at, cosine)
        assert (low <= best).all() and (best <= high).all()
        assert (closer_low <= best[:, at]).all() and (best[:, at] <= closer_high).all()
        assert (closer_high - closer_low).mean() < (high - low)[:, at].mean() / 20
        assert width < 1 or (high - low).mean() < best.std() / 2


def test_few_of_many_candidates_are_kept():
    """The shortcut by parts leaves the images that a full sort of the bounds leaves."""
    rng = np.random.default_rng(4)
    middle, half = rng.normal(size=10_000).astype(np.float32), rng.random(10_000, np.float32) / 9
    for threshold, k in ((-9.0, 50), (-9.0, 7), (1.0, 50), (-9.0, 300), (3.5, None)):
        found = collection_module._candidates(middle - half, middle + half, threshold, k)
        reach = threshold if k is None else max(threshold, np.sort(middle - half)[-k])
        assert {*found} == {*np.flatnonzero(middle + half >= reach)}
        assert (np.diff((middle + half)[found]) <= 0).all()


def test_maps_are_read_when_needed_and_never_of_another_image(indexed, color_words_file, monkeypatch):
    """Only the vectors are read before; afterwards row ids change, and images vanish."""
    read, rows = [], Store.rows
    monkeypatch.setattr(Store, "rows", lambda store, ids, names: read.append(names) or rows(store, ids, names))
    collection = Collection.open(indexed)
    pack = LabelPack.load(color_words_file).pick(["red"])
    before, after, late = (collection.ranked(parse_query("red"), pack, 9) for _ in range(3))
    assert read == [["vector"]] * 3
    wanted = {hit.image: hit.mask(edges=False) for hit in before}
    assert len(read) == 4 and len({mask.tobytes() for mask in wanted.values()}) > 2
    gone = after[0]
    store = Store(indexed)
    store.forget([Key(os.fsencode(gone.place.file), -1, 0)])
    store.tidy()
    for hits in (after, late):  # as the collection still sees the table, and as it is now
        for hit in hits[1:]:
            np.testing.assert_array_equal(hit.mask(edges=False), wanted[hit.image])
        with pytest.raises(ZerosegError, match=f"image {gone.image} has been changed or deleted since the search"):
            hits[0].mask(edges=False)
        collection.look()


def test_more_like_a_segment(random_collection):
    collection, embeddings = random_collection
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    cosines = (unit @ unit[7, 2]).max(1)
    cosines[7] = -1
    found = collection.like(7, 2, 10)
    assert [hit.image for hit, _ in found] == np.argsort(-cosines)[:10].tolist()
    for hit, segment in found:
        assert hit.score == pytest.approx(unit[hit.image, segment] @ unit[7, 2], abs=1e-5)


def test_stored_reduction_is_used_and_renewed(random_collection, monkeypatch):
    collection, _ = random_collection
    reduced, collection._state = collection.state().reduced, None  # in memory
    monkeypatch.setattr("zeroseg.search.collection._KEPT_FROM", 1)
    first = collection.state()
    folder = Path(collection.store.path)
    kept = load_reduced(folder, first.version)
    (folder / f"reduced-{first.version}" / "closer.npy").unlink()  # as an earlier release left it
    collection._state = None
    assert collection.state().reduced.facts.equals(kept.facts) and load_reduced(folder, first.version)
    np.testing.assert_array_equal(kept.closer, first.reduced.closer)
    directions, at = np.random.default_rng(5).normal(size=(2, 40)).astype(np.float32), np.array([200, 3, 239])
    mapped, again = (one.reduced.closer_bounds(directions, at) for one in (first, collection.state()))
    np.testing.assert_array_equal(mapped, reduced.closer_bounds(directions, at))
    np.testing.assert_array_equal(again, mapped)
    file = folder / f"reduced-{first.version}" / "closer.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert load_reduced(folder, first.version) is None, "a file that was cut off is not taken"
    collection.store.append([], 0)
    collection.store.forget([Unit(Photo("3.jpg", "/photos/3.jpg"), 1, 1).key])
    assert 3 not in collection.state().reduced.images and len(collection.state().reduced.images) == 239
    assert [path.name for path in folder.glob("reduced-*")] == [f"reduced-{collection.state().version}"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("red bus", [(("red bus",), ())]),
        ("dog, cat;horse", [(("dog",), ()), (("cat",), ()), (("horse",), ())]),
        ("dog+person", [(("dog", "person"), ())]),
        ("beach-person", [(("beach",), ("person",))]),
        ("beach -person - dog+sea", [(("beach", "sea"), ("person", "dog"))]),
        ("t-shirt", [(("t-shirt",), ())]),
        ("t-shirt-person", [(("t-shirt",), ("person",))]),
        ("", None),
        ("dog+", None),
        ("-dog", None),
        ("dog-", [(("dog-",), ())]),
    ],
)
def test_queries_are_parsed(text, wanted):
    if wanted is None:
        with pytest.raises(ZerosegError, match="expected"):
            parse_query(text)
        return
    assert list(parse_query(text).alternatives) == [Alternative(*one) for one in wanted]


def paths(collection, words, pack, **options):
    filters = Filters(**options)
    query = parse_query(words)
    return {hit.path for hit in collection.ranked(query, LabelPack.load(pack).pick(query.words), 20, None, filters)}


def test_filters(indexed, color_words_file):
    from datetime import datetime

    collection = Collection.open(indexed)
    red = {"album/0_red.png", "album/more/3_dark.png"}
    assert paths(collection, "red", color_words_file) == {*red, *paths(collection, "green", color_words_file)} | {
        f"album/{name}.png" for name in ("2_blue", "blue only")
    }  # the colour model has every colour on every photo, whatever its area
    assert paths(collection, "red", color_words_file, least=0.3) == red
    assert paths(collection, "blue", color_words_file, least=0.6) == {"album/blue only.png"}
    assert paths(collection, "blue", color_words_file, least=0.3, most=0.6) == {
        "album/2_blue.png",
        "album/more/1_green.png",
    }
    assert paths(collection, "red", color_words_file, path="*/more/?_*") == {
        "album/more/1_green.png",
        "album/more/3_dark.png",
    }
    assert paths(
        collection, "red", color_words_file, after=datetime(2024, 5, 11), before=datetime(2024, 5, 12, 12)
    ) == {"album/more/1_green.png"}
    with pytest.raises(ZerosegError, match="expected 0 <= least <= most <= 1"):
        Filters(least=0.5, most=0.1)


def test_saved_results(indexed, color_model, color_words_file):
    parquet = pytest.importorskip("pyarrow.parquet")
    args = ("search", "collection", "red", "--text", color_words_file, "--min-area", 0.3)
    done = command(*args, "--save", "x.png", "--save", "x.jsonl", "--save", "x.parquet")
    assert done.exit_code == 0, done.output
    assert "  1  1.000   50.0%  0,0 48x64            album/0_red.png  2024-05-10 12:00:00" in done.output.splitlines()
    segmenter = Segmenter.load(color_model, threads=1).set_labels(LabelPack.load(color_words_file).pick(["red"]))
    documents = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    assert {one["path"] for one in documents} == {"album/0_red.png", "album/more/3_dark.png"}
    for one in documents:
        mask = segmenter.segment(one["path"]).label_map >= 0
        np.testing.assert_array_equal(decode_rle(one["segmentation"]), mask)
        assert one["bbox"] == list(bounding_box(mask)) and one["share"] == pytest.approx(mask.mean(), abs=1e-6)
    table = parquet.read_table("x.parquet").to_pylist()
    assert [row["rle"] for row in table] == [one["segmentation"]["counts"] for one in documents]
    assert np.asarray(Image.open("x.png").convert("RGB")).shape == (320, 640, 3)
    assert "expected a file that ends in .png" in command(*args, "--save", "x.txt").output
    Path("photo.png").write_bytes(Path("album/0_red.png").read_bytes())
    done = command(*args, "--save", "photo.png")
    assert done.exit_code == 1 and "was not written by zeroseg and would be overwritten" in done.output


def test_a_moved_folder(indexed, album, color_words_file):
    args = ("search", "collection", "red", "--text", color_words_file, "--min-area", 0.3, "--save", "x.png")
    shutil.move(album, album.parent / "elsewhere")
    done = command(*args)
    assert done.exit_code == 1 and "if its folder has moved, give --root NEW" in done.output
    done = command(*args, "--root", "elsewhere")
    assert done.exit_code == 0 and "wrote x.png" in done.output, done.output
    assert read_root("/b=.", ["/a", "/b"]) == {"/b": os.path.realpath(".")}
    for root, sources, message in [
        (".", ["/a", "/b"], "the collection has 2 folders; say which: /a=."),
        ("/c=.", ["/a"], "/c is none of the collection's folders, which are: /a"),
        ("/nowhere", ["/a"], "/nowhere does not exist"),
    ]:
        with pytest.raises(ZerosegError, match=message):
            read_root(root, sources)
