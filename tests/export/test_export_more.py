"""Precisions, the label map and the gate through export_file: what is kept, what is refused, and what is said."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.export.gate import Gate, photos_of
from zeroseg.export.gate_labels import gate_cases
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.model import save_checkpoint
from zeroseg.runtime.opening import open_runner
from zeroseg.runtime.ort_runner import OrtRunner
from zeroseg.words import embed_labels

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from zeroseg.export import run, to_onnx  # noqa: E402


@pytest.fixture(scope="module")
def traced(make_model, sidecar, tmp_path_factory):
    """(folder with model.pt, its float32 graph); tracing is what takes time here."""
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(folder / "model.pt", make_model("vit"), sidecar=sidecar)
    return folder, to_onnx.to_onnx(make_model("vit"), sidecar)


@pytest.fixture
def model_pt(traced, tmp_path, monkeypatch):
    """A fresh copy of model.pt whose export takes the graph that was traced once."""
    path = tmp_path / "model.pt"
    path.write_bytes((traced[0] / "model.pt").read_bytes())

    def ready(model, sidecar, **options):
        graph = onnx.ModelProto()
        graph.CopyFrom(traced[1])
        return graph

    monkeypatch.setattr(to_onnx, "to_onnx", ready)
    return path


def export(model_pt, lines, **options):
    out = model_pt.parent / "net.onnx"
    return out, run.export_file(model_pt, out, run.ExportOptions(**options), lines.append)


def files_beside(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_model_pt_is_loaded_once(model_pt, monkeypatch):
    import zeroseg.model

    loads, load = [], zeroseg.model.load_model
    monkeypatch.setattr(zeroseg.model, "load_model", lambda path: loads.append(path) or load(path))
    export(model_pt, [])
    assert loads == [model_pt]


def test_fp16_file_has_half_weights_and_the_same_masks(model_pt):
    lines = []
    out, parity = export(model_pt, lines, precision="fp16")
    assert parity.ok and parity.agreement >= 0.995
    assert json.loads(out.with_suffix(".json").read_text())["precision"] == "fp16"
    large = [t for t in onnx.load(out).graph.initializer if np.prod(t.dims) > 256 and t.data_type in (1, 10)]
    assert large and sum(t.data_type == onnx.TensorProto.FLOAT16 for t in large) > len(large) / 2
    assert "nodes in float32" in lines[-1]
    assert files_beside(out) == ["model.pt", "net.json", "net.onnx"]


def test_int8_that_changes_masks_is_refused_after_all_shares(model_pt):
    """These random weights reach 90 to 98 % with 49 to 13 products quantised."""
    lines = []
    with pytest.raises(ZerosegError, match="not written.* required; first node that diverges: "):
        export(model_pt, lines, precision="int8")
    assert files_beside(model_pt) == ["model.pt"]
    tried = [line for line in lines if line.startswith("int8: ")]
    assert [int(line.split()[1]) for line in tried] == [0, 3, 6, 12, 24, 36]  # of 49


def test_int8_that_keeps_the_masks_is_written(model_pt, monkeypatch):
    """The last four products, behind the maps."""
    from zeroseg.export import int8_graph, variants

    every = int8_graph.quantisable
    for module in (int8_graph, variants):
        monkeypatch.setattr(module, "quantisable", lambda folded: every(folded)[-4:])
    lines = []
    out, parity = export(model_pt, lines, precision="int8")
    assert parity.ok and json.loads(out.with_suffix(".json").read_text())["precision"] == "int8"
    weights = {tensor.name: tensor.data_type for tensor in onnx.load(out).graph.initializer}
    dequantised = [
        weights.get(node.input[0]) for node in onnx.load(out).graph.node if node.op_type == "DequantizeLinear"
    ]
    assert dequantised.count(onnx.TensorProto.INT8) >= 2  # equal weights are stored once
    assert lines[-1].endswith("0 of 4 products in float32")
    assert files_beside(out) == ["model.pt", "net.json", "net.onnx"]


def test_photos_without_anything_in_them_are_said_to_be_it(model_pt, tmp_path):
    """No node is blamed."""
    from PIL import Image

    Image.new("RGB", (64, 64), (127, 127, 127)).save(tmp_path / "grey.png")
    with pytest.raises(
        ZerosegError, match="not written, these photos are unsuitable: .*other photos .--photo, --gate-photos.$"
    ):
        export(model_pt, [], photos=(tmp_path / "grey.png",))
    assert files_beside(model_pt) == ["grey.png", "model.pt"]


def test_every_step_is_told_with_its_time_and_the_comparison_has_a_bar(model_pt, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    lines = []
    export(model_pt, lines)
    steps = ["loading", "running", "choosing", "tracing", "making", "comparing"]
    assert [line.split()[0] for line in lines[:6]] == steps
    assert all(re.search(r": \d+\.\d s$", line) for line in lines[:6]) and len(lines) == 7
    [inputs] = set(re.findall(r"comparing the fp32 file with the model: +0%\|.*?\| 0/(\d+) ", screen.getvalue()))
    assert int(inputs) == 2 * len(photos_of(None)) + 1


@pytest.mark.parametrize("content", ['{"annotations": []}', "[1]", "no JSON"])
def test_a_json_of_somebody_else_stays(model_pt, content):
    other = model_pt.parent / "net.json"
    other.write_text(content)
    with pytest.raises(ZerosegError, match="net.json, which is not a sidecar; choose another name"):
        export(model_pt, [])
    assert other.read_text() == content and files_beside(other) == ["model.pt", "net.json"]


def test_auto_prints_a_table_and_keeps_what_passes(model_pt):
    lines = []
    out, parity = export(model_pt, lines, precision="auto", rounds=3)
    assert parity.ok and out.is_file()
    table = next(line for line in lines if line.startswith("precision"))
    assert [row.split()[0] for row in table.splitlines()[1:4]] == ["fp32", "fp16", "int8"]
    assert table.count("; kept") == 1


def test_masks_file_is_written_beside_and_gives_the_masks_of_the_host(model_pt):
    import onnxruntime

    from zeroseg.segment.scores import label_table, segment_scores

    lines = []
    out, _ = export(model_pt, lines, masks=True)
    assert "masks of the self-contained graph: the same as zeroseg's on" in "\n".join(lines)
    assert files_beside(out) == ["model.pt", "net.json", "net.masks.onnx", "net.onnx"]
    artifact = read_artifact(out)
    rng, labels = np.random.default_rng(3), np.eye(3, 16, dtype=np.float32)
    image = rng.standard_normal((1, 3, 64, 96)).astype(np.float32)
    session = onnxruntime.InferenceSession(out.with_name("net.masks.onnx"), providers=["CPUExecutionProvider"])
    feed = {"image": image, "label_embeddings": labels, "threshold": np.array(0.1, np.float32)}
    label_map, scores = session.run(None, feed)
    network = open_runner(artifact, threads=1).run(image)
    expected = segment_scores(network["segment_embeddings"][0], labels, artifact.sidecar.scoring)
    np.testing.assert_allclose(scores[0], expected, atol=1e-5)
    wanted = mask_decode(network["segment_maps"][0], label_table(expected, 0.1), (64, 96))[0]
    assert (label_map[0] == wanted).mean() > 0.999


def test_file_says_what_made_it(model_pt, monkeypatch):
    monkeypatch.setattr(to_onnx, "current_commit", lambda *parts: "0123abc+")
    out, _ = export(model_pt, [])
    made_by = json.loads(out.with_suffix(".json").read_text())["made_by"]
    assert made_by["commit"] == "0123abc+" and set(made_by) == {"zeroseg", "commit", "torch", "onnx", "onnxscript"}
    monkeypatch.setattr(to_onnx, "current_commit", lambda *parts: None)
    assert "commit" not in to_onnx.made_by()


CORRUPTIONS = [("Conv", 0), ("MatMul", 1), ("MatMul", 12), ("LayerNormalization", -1)]  # operator, which of them


@pytest.mark.parametrize(("operator", "which"), CORRUPTIONS)
def test_corrupted_weight_is_refused_and_its_node_named(model_pt, traced, monkeypatch, operator, which):
    damaged = onnx.ModelProto()
    damaged.CopyFrom(traced[1])
    weights = {tensor.name: tensor for tensor in damaged.graph.initializer}
    node = [n for n in damaged.graph.node if n.op_type == operator and n.input[1] in weights][which]
    tensor = weights[node.input[1]]
    node = next(n for n in damaged.graph.node if tensor.name in n.input)  # equal weights are stored once
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(1 - 3 * values, tensor.name))
    monkeypatch.setattr(to_onnx, "to_onnx", lambda model, sidecar: damaged)
    clean = traced[1]
    monkeypatch.setattr(to_onnx, "trace", lambda model: clean)
    monkeypatch.setattr("zeroseg.export.divergence.torch_values", lambda program, feed: _values(program, feed))
    with pytest.raises(ZerosegError, match="required; first node that diverges: ") as error:
        export(model_pt, [])
    assert f"diverges: {node.name} ({operator})" in str(error.value) and "\n" not in str(error.value)
    assert files_beside(model_pt) == ["model.pt"]


def _values(graph, feed):
    from zeroseg.export.divergence import node_values

    return node_values(graph, feed)


def test_torch_values_have_the_graphs_names_and_numbers(make_model, traced):
    from zeroseg.export.divergence import errors, node_values, torch_values

    program = to_onnx.trace(make_model("vit"))
    rng = np.random.default_rng(0)
    feed = {"image": rng.standard_normal((1, 3, 64, 96)).astype(np.float32)}
    graph = traced[1]
    found = errors(torch_values(program, feed), node_values(graph, feed))
    named = [name for node in graph.graph.node for name in node.output]
    assert sum(name in found for name in named) > len(named) / 3
    assert max(found.values()) < 1e-3


def test_gate_counts_miou_where_masks_are_given(model_pt, traced):
    artifact = read_artifact(model_pt)
    runner = open_runner(artifact, threads=1)
    cases = gate_cases(runner, artifact.sidecar, [])
    score = {id(runner): 41.0}
    for other, ok in ((41.2, True), (41.4, False), (40.5, False), (float("nan"), False)):
        gate = Gate(runner, cases, artifact.sidecar, masks=lambda r, other=other: score.get(id(r), other))
        parity = gate.check(open_runner(artifact, threads=1))
        assert parity.ok == ok and parity.miou[0] == 41.0
        assert ok or "mIoU is" in parity.why_not()
    assert "mIoU 41.00 -> 41.20" in replace(parity, miou=(41.0, 41.2)).table()


def test_masks_of_a_folder_give_miou(tmp_path):
    """The color model on a picture that is half red, half blue, with its mask: all right, then all wrong."""
    from PIL import Image

    from tests.color_model import NAMES, vectors, write_color_model
    from zeroseg.export.gate import mask_scorer

    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    mask = np.zeros((64, 128), np.uint8)
    mask[:, 64:] = 1
    colors = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    Image.fromarray(colors[mask]).save(tmp_path / "images/a.png")
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    (tmp_path / "classes.txt").write_text("red\nblue\n")
    artifact = read_artifact(write_color_model(tmp_path))

    class Named(OrtRunner):  # its segments' embeddings are the words' of the table
        def __init__(self, order):
            super().__init__(artifact, threads=1)
            self.order = order

        def _run(self, image):
            out = super()._run(image)
            told = np.concatenate([vectors(name) for name in self.order])
            words = embed_labels(["red", "blue"]).vectors
            return out | {"segment_embeddings": out["segment_embeddings"] @ told.T @ words}

    assert NAMES[:3] == ["red", "green", "blue"]
    score = mask_scorer(tmp_path, "folder", artifact.sidecar)
    assert score(Named(["red", "blue"])) == pytest.approx(100, abs=3)
    assert score(Named(["blue", "red"])) == pytest.approx(0, abs=3)


def test_photos_that_come_with_zeroseg():
    photos = photos_of(None)
    assert len(photos) == 4 and all(photo.dtype == np.uint8 and min(photo.shape[:2]) >= 300 for photo in photos)


def test_gate_photos_of_an_empty_folder(model_pt, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZerosegError, match="empty: expected a folder with photos, found none"):
        export(model_pt, [], gate_photos=tmp_path / "empty")
    with pytest.raises(ZerosegError, match="--gate-masks: needs --gate-photos"):
        export(model_pt, [], gate_masks="folder")


def test_gelu_is_written_as_runtimes_know_it(traced):
    """0.5 multiplies x first; the numbers are compared with PyTorch elsewhere."""
    graph = traced[1].graph
    halves = {
        t.name for t in graph.initializer if list(t.dims) in ([], [1]) and onnx.numpy_helper.to_array(t).item() == 0.5
    }
    made = {name: node for node in graph.node for name in node.output}
    gelus = [
        n
        for n in graph.node
        if n.op_type == "Mul"
        and any(made[i].op_type == "Mul" and set(made[i].input) & halves for i in n.input if i in made)
    ]
    erfs = [n for n in graph.node if n.op_type == "Erf"]
    assert len(erfs) == len(gelus) > 0
    for node in gelus:
        half = next(made[i] for i in node.input if i in made and set(made[i].input) & halves)
        bracket = next(made[i] for i in node.input if made[i] is not half)
        assert made[half.input[0]].op_type not in ("Erf",) and bracket.op_type == "Add"
