"""What the gate passes and refuses: the bundled model, and networks of other spaces, damaged on purpose."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from zeroseg.artifact import read_artifact
from zeroseg.export.gate import Gate, photos_of
from zeroseg.export.gate_labels import LABEL_COUNTS, choose_label_sets, gate_cases
from zeroseg.export.parity import REQUIRED, Case, draw_scene, label_map
from zeroseg.export.run import ExportOptions, make_gate
from zeroseg.runtime.base import Runner
from zeroseg.runtime.opening import open_runner
from zeroseg.sidecar import Scoring, parse_sidecar


class Damaged(Runner):
    """Another runner's outputs, changed by `change`."""

    def __init__(self, runner, change):
        self.runner, self.change, self.backend = runner, change, runner.backend

    def _run(self, image):
        out = {name: value.copy() for name, value in self.runner.run(image).items()}
        self.change(out)
        return out


EMBEDDINGS = {"segment_embeddings", "place_embeddings"}


def shorter(out):
    """Of the bundled model's embeddings half the length is half the score; cosines do not see it."""
    for name in EMBEDDINGS & out.keys():
        out[name] *= np.float32(0.5)


def turned(out, amount=2.0):
    """All embeddings two thirds of the way to one direction, or as far as amount says (a third: 0.5): scores move, for
    some labels up and for others down."""
    for name in EMBEDDINGS & out.keys():
        axis = 2 if name == "segment_embeddings" else 1
        length = np.linalg.norm(out[name], axis=axis, keepdims=True).mean()
        direction = np.zeros_like(out[name])
        direction[(slice(None),) * axis + (slice(0, None, 2),)] = length / np.sqrt(out[name].shape[axis] / 2)
        out[name] += np.float32(amount) * direction


def mirrored(out):
    for name in {"segment_maps", "place_embeddings"} & out.keys():
        out[name] = np.ascontiguousarray(out[name][..., ::-1])


def other_segments(out):
    """Every segment, or place, has its neighbour's embedding."""
    for name, axis in (("segment_embeddings", 1), ("place_embeddings", 3)):
        if name in out:
            out[name] = np.roll(out[name], 1, axis)


DAMAGES = {
    "shorter": shorter,
    "turned": turned,
    "mirrored": mirrored,
    "other segments": other_segments,
}


def check(gate, change):
    return gate.check(Damaged(gate.reference, change))


@pytest.fixture(scope="module")
def bundled():
    """The gate of the bundled model, on the photos that come with zeroseg."""
    artifact = read_artifact()
    runner = open_runner(artifact, threads=1)
    return Gate(runner, gate_cases(runner, artifact.sidecar, photos_of(None)), artifact.sidecar)


def test_bundled_model_passes_as_it_is(bundled):
    parity = check(bundled, lambda out: None)
    assert parity.ok and parity.telling and parity.agreement == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_bundled_model_is_refused_when_its_masks_change(bundled, damage):
    parity = check(bundled, DAMAGES[damage])
    assert parity.telling and not parity.ok and parity.agreement < 0.97


def test_embeddings_that_are_turned_less_are_refused_too(bundled):
    """By their cosine and by the masks, which are still nearly the same."""
    parity = check(bundled, lambda out: turned(out, 0.5))
    assert (
        parity.telling and not parity.ok and parity.cosine["segment_embeddings"] < 0.95 and parity.agreement < REQUIRED
    )


def test_labels_of_the_bundled_model_are_words(bundled):
    """Of the table, none of them twice; with them there are several labels and background in the photos."""
    from zeroseg.words.table import load_table

    sets = {len(case.vectors): case.vectors for case in bundled.cases}
    assert set(sets) == set(LABEL_COUNTS)
    rows = np.concatenate(list(sets.values()))
    nearest = rows @ load_table().vectors.T
    np.testing.assert_allclose(nearest.max(1), 1, atol=1e-5)
    assert len(set(nearest.argmax(1))) == sum(LABEL_COUNTS)
    assert {case.threshold for case in bundled.cases} == {bundled.sidecar.threshold}


def test_a_few_cases_see_it_too(bundled):
    for damage in ("shorter", "mirrored", "other segments"):
        assert bundled.quick(Damaged(bundled.reference, DAMAGES[damage]))[0] > 0.05
    assert bundled.quick(bundled.reference.runner)[0] == 0


def test_photos_without_anything_in_them_are_refused(bundled):
    grey = [np.full((64, 64, 3), 127, np.uint8)]
    runner, high = bundled.reference.runner, replace(bundled.sidecar, threshold=2.0)
    parity = Gate(runner, gate_cases(runner, high, grey), high).check(runner)
    assert parity.agreement == 1 and not parity.ok and "these photos are unsuitable" in parity.why_not()


class Features(Runner):
    """A network of a space that has no words: colours' features. dense: places; else four segments,
    the quarters of the image. spread says how far the features are apart; common, what they share."""

    backend = "test"

    def __init__(self, dim, dense, spread, common):
        rng = np.random.default_rng(5)
        self.dim, self.dense = dim, dense
        self.mix, self.common = spread * rng.standard_normal((6, dim)), common * np.eye(1, dim, dtype=np.float32)

    def _run(self, image):
        B, _, H, W = image.shape
        places = image.reshape(B, 3, H // 16, 16, W // 16, 16).mean((3, 5))
        colors = np.concatenate([places, np.sin(9 * places)], 1)

        def unit(colors_BC):
            features = np.einsum("bc...,cd->b...d", colors_BC, self.mix) + self.common
            return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)

        whole = {"image_embedding": unit(colors.mean((2, 3)))}
        if self.dense:
            return {"place_embeddings": np.ascontiguousarray(np.moveaxis(unit(colors), -1, 1))} | whole
        h, w = places.shape[2:]
        owner = 2 * (np.arange(h) >= h // 2)[:, None] + (np.arange(w) >= w // 2)
        maps = np.eye(4, dtype=np.float32)[owner].transpose(2, 0, 1)
        pooled = np.einsum("bcyx,kyx->bkc", colors, maps / maps.sum((1, 2), keepdims=True))
        embeddings = np.stack([unit(pooled[:, k]) for k in range(4)], 1)
        return {"segment_maps": np.repeat(maps[None], B, 0), "segment_embeddings": embeddings} | whole


def sidecar_of(dim, dense, threshold):
    document = {
        "format": 2,
        "name": "test",
        "embedding_space": "some/space",
        "embedding_dim": dim,
        "segments": 4,
        "stride": 16,
        "input": {"short_side": 96, "multiple": 32, "max_long_side": 128, "mean": [0.5] * 3, "std": [0.5] * 3},
        "threshold": threshold,
        "scoring": {"centre": None, "share": 0.0},
        "files": {},
        "card": {},
    }
    if dense:
        document["dense"] = {
            "window": 64,
            "stride": 32,
            "reading": "test",
            "text": "test",
            "templates": 1,
            "background": [],
            "background_vectors": "",
        }
    return parse_sidecar(document, "test")


# dim, dense, spread of features, what they share, threshold: features that are far apart, and nearly the same ones
@pytest.mark.parametrize(
    "dim, dense, spread, common, threshold",
    [
        (16, False, 1, 0, 0.0),
        (16, False, 1, 0, 0.3),
        (512, False, 1, 0, 0.25),
        (512, False, 0.02, 1, 0.25),
        (20, True, 1, 0, -1.0),
        (512, True, 1, 0, -1.0),
        (512, True, 0.02, 1, -1.0),
    ],
)
def test_in_spaces_without_words_rows_are_built(dim, dense, spread, common, threshold):
    runner, sidecar = Features(dim, dense, spread, common), sidecar_of(dim, dense, threshold)
    rng = np.random.default_rng(2)
    photos = [draw_scene(rng, size) for size in ((100, 140), (120, 90), (90, 90))]
    gate = Gate(runner, gate_cases(runner, sidecar, photos), sidecar)
    parity = check(gate, lambda out: None)
    assert parity.ok and parity.telling and parity.agreement == 1
    for case in gate.cases:
        np.testing.assert_allclose(np.linalg.norm(case.vectors, axis=1), 1, rtol=1e-5)
    for name, damage in DAMAGES.items():
        if name == "shorter":
            continue  # a cosine does not see it
        assert not check(gate, damage).ok, name


@pytest.mark.parametrize("dense", [False, True])
def test_model_runs_once_on_each_image(dense, monkeypatch):
    """The comparison takes the outputs that the labels were chosen by."""
    runner, runs = Features(16, dense, 1, 0), []
    monkeypatch.setattr(runner, "_run", lambda image: runs.append(image.shape) or Features._run(runner, image))
    gate = make_gate(SimpleNamespace(reference=runner, sidecar=sidecar_of(16, dense, 0.0)), ExportOptions())
    assert gate.check(gate.reference).ok
    assert len(runs) == len({id(case.image) for case in gate.cases})


def test_every_label_set_is_the_same_each_time(bundled):
    """A bundle's device and a second export compare on the same."""
    images = [case.image for case in bundled.cases[:4:2]]
    first, second = (choose_label_sets(bundled.reference.runner, bundled.sidecar, images) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)


def test_label_map_of_outputs():
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, 0, :, 0] = maps[0, 1, :, 1] = 1
    embeddings = np.array([[[0.1, 0.4], [0.3, 0.2]]], np.float32)
    lengths = np.linalg.norm(embeddings, axis=2)
    out = {"segment_maps": maps, "segment_embeddings": embeddings, "image_embedding": embeddings[:, 0]}
    case = Case(np.zeros((1, 3, 32, 32), np.float32), (2, 2), np.eye(2, dtype=np.float32), 0, 0)
    np.testing.assert_array_equal(label_map(out, 0, case, -np.inf, Scoring()), [[1, 0], [1, 0]])
    between = (0.4 / lengths[0, 0] + 0.3 / lengths[0, 1]) / 2  # the cosines of the two segments with their labels
    np.testing.assert_array_equal(label_map(out, 0, case, between, Scoring()), [[1, -1], [1, -1]])
    assert label_map(out | {"image_embedding": np.full((1, 2), np.nan)}, 0, case, 0.35, Scoring()) is None


@pytest.mark.parametrize("output", [None, "masks/winner", "masks/which", "masks/best", "masks/directions"])
def test_masks_in_the_graph_that_are_wrong_are_found(bundled, tmp_path, output):
    """Each node's opposite: the least likely segment, the worst label, the lowest score against the threshold; and
    label directions that are not scaled to length 1."""
    onnx = pytest.importorskip("onnx")
    from zeroseg.export.gate import check_masks_file
    from zeroseg.export.masks_graph import masks_graph

    network = read_artifact().path
    model = masks_graph(onnx.load(network), bundled.sidecar)
    for node in model.graph.node:
        if node.output[0] == output:
            node.op_type = {"Div": "Mul"}.get(node.op_type, node.op_type.replace("Max", "Min"))
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    share = check_masks_file(path, network, bundled.cases, bundled.sidecar.scoring)
    assert share > 0.999 if output is None else share < 0.8
