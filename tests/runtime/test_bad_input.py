"""What can be wrong with a model's files and with labels, in one table: one clear line each, never a traceback."""

import hashlib
import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.color_model import DIM, NAMES, SPACE, sidecar, vectors, write_color_model
from zeroseg.commands.infer import infer
from zeroseg.errors import ZerosegError
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack

onnx = pytest.importorskip("onnx")


def described(folder, content: bytes, **changes):
    """model.onnx with this content and a sidecar that vouches for it: only the content is wrong."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    files = {path.name: hashlib.sha256(content).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(sidecar(files=files) | changes))
    return path


def changed_network(folder, change):
    model = onnx.load(write_color_model(folder))
    change(model)
    return described(folder, model.SerializeToString())


def cut_off(folder):
    content = write_color_model(folder).read_bytes()
    return described(folder, content[: len(content) // 2])


def flipped_bytes(folder):
    path = write_color_model(folder)
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    return path


def with_sidecar_text(text):
    def build(folder):
        path = described(folder, write_color_model(folder).read_bytes())
        path.with_suffix(".json").write_text(text)
        return path

    return build


def with_sidecar(**changes):
    return lambda folder: described(folder, write_color_model(folder).read_bytes(), **changes)


def reads_another_file(model):
    """Weights that are said to lie in a file outside the model's folder."""
    tensor = next(t for t in model.graph.initializer if t.name == "embeddings")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../../../etc/passwd"


def name_that_is_no_utf8(folder):
    """One byte of a node's name: ONNX Runtime hands its Python part a name that cannot be decoded."""
    content = bytearray(write_color_model(folder).read_bytes())
    content[content.index(b"last_axis")] = 0xCE
    return described(folder, bytes(content))


def unknown_operator(model):
    model.graph.node[0].op_type = "NoSuchOperator"


def foreign_domain(model):
    model.graph.node[0].domain = "evil.example"


def maps_without_a_batch(model):
    """Declares nothing wrong, computes another shape."""
    softmax = next(n for n in model.graph.node if n.output[0] == "segment_maps")
    softmax.output[0] = "maps"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "segment_maps":
                node.input[i] = "maps"
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["maps", "last_axis"], ["segment_maps"]))
    model.graph.output[0].type.tensor_type.ClearField("shape")


def pt(content):
    def build(folder):
        path = folder / "model.pt"
        path.write_bytes(content)
        return path

    return build


class Hostile:
    def __reduce__(self):
        return (print, ("this must never run",))


MODELS = [  # what, how it is made, what is said
    ("empty", lambda f: described(f, b""), "model.onnx: "),
    ("text", lambda f: described(f, b"not an onnx file"), "model.onnx: onnxruntime .* cannot load it"),
    ("cut off", cut_off, "model.onnx: onnxruntime .* cannot load it"),
    ("changed bytes", flipped_bytes, "colors.onnx: does not match its sidecar"),
    ("a name that is no UTF-8", name_that_is_no_utf8, "cannot load it"),
    ("weights outside its folder", lambda f: changed_network(f, reads_another_file), "cannot load it"),
    ("unknown operator", lambda f: changed_network(f, unknown_operator), "cannot load it"),
    ("foreign domain", lambda f: changed_network(f, foreign_domain), "cannot load it"),
    ("another shape", lambda f: changed_network(f, maps_without_a_batch), "segment_maps from the network: expected "),
    ("no sidecar", lambda f: (with_sidecar()(f).with_suffix(".json").unlink(), f / "model.onnx")[1], "is missing"),
    ("sidecar no JSON", with_sidecar_text("{"), "model.json: cannot be read as JSON"),
    ("sidecar nested without end", with_sidecar_text("[" * 200_000), "model.json: cannot be read as JSON"),
    ("sidecar binary", with_sidecar_text("\x00\x01"), "model.json: cannot be read as JSON"),
    ("sidecar a list", with_sidecar_text("[]"), "expected a JSON object, got list"),
    ("no checksum", with_sidecar(files={}), "no checksum for it"),
    ("embedding width", with_sidecar(embedding_dim=768), f"embeddings of {DIM} numbers, but its sidecar says 768"),
    ("threshold NaN", with_sidecar(threshold=float("nan")), "threshold: expected a finite number"),
    ("std zero", with_sidecar(input={**sidecar()["input"], "std": [0, 1, 1]}), "std: expected finite numbers above 0"),
    ("side of a billion", with_sidecar(input={**sidecar()["input"], "short_side": 10**9}), "expected at most 4096"),
    ("pt empty", pt(b""), "model.pt: not a zeroseg checkpoint"),
    ("pt text", pt(b"no checkpoint"), "model.pt: not a zeroseg checkpoint"),
    ("pt that runs code", pt(pickle.dumps(Hostile())), "model.pt: not a zeroseg checkpoint"),
]


@pytest.mark.parametrize(("build", "message"), [row[1:] for row in MODELS], ids=[row[0] for row in MODELS])
def test_model_files(tmp_path, capfd, build, message):
    if build.__qualname__.startswith("pt."):
        pytest.importorskip("torch")
    path = build(tmp_path)
    pack = LabelPack(names=NAMES, vectors=vectors(*NAMES), space=SPACE)
    with pytest.raises((ZerosegError, ValueError), match=message) as error:
        Segmenter.load(path, threads=1).set_labels(pack).segment(np.zeros((64, 64, 3), np.uint8))
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 600
    assert capfd.readouterr().out == ""


def test_the_command_says_it_in_one_line(tmp_path):
    path = cut_off(tmp_path)
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    done = CliRunner().invoke(infer, [str(photo), "--labels", "cat", "--model", str(path), "--out", str(tmp_path)])
    assert done.exit_code == 1 and done.output.startswith("Error: ") and done.output.count("\n") == 1


LABELS = [
    ("none", [], None, "label"),
    ("an empty word", ["cat", ""], None, "label"),
    ("no list", 5, None, "labels: expected a list of words, got 5"),
    ("one word as text", "cat", None, "labels: expected a list of words or a labels.npz, got 'cat'"),
    ("wrong width", NAMES, np.eye(4, 768, dtype=np.float32), f"label pack: expected {DIM} numbers per name"),
    ("not finite", NAMES, np.full((4, DIM), np.nan, np.float32), "expected finite numbers"),
    ("all zero", NAMES, np.zeros((4, DIM), np.float32), "expected directions, got only zeros"),
    ("too few rows", NAMES, np.eye(3, DIM, dtype=np.float32), r"expected \(4, D\) float"),
]


@pytest.mark.parametrize(("names", "rows", "message"), [row[1:] for row in LABELS], ids=[row[0] for row in LABELS])
def test_labels(color_model, names, rows, message):
    segmenter = Segmenter.load(color_model, threads=1)
    with pytest.raises((ZerosegError, ValueError), match=message) as error:
        segmenter.set_labels(names if rows is None else LabelPack(names=names, vectors=rows, space=SPACE))
    assert "\n" not in str(error.value)


def test_a_word_named_twice_is_looked_for_once(color_model):
    assert Segmenter.load(color_model, threads=1).set_labels(["cat", "dog", "cat"]).pack.names == ["cat", "dog"]


def test_ten_thousand_labels(color_model):
    """The last one is the one that is there."""
    rows = np.random.default_rng(0).standard_normal((10_000, DIM)).astype(np.float32)
    rows[:, :4] = 0
    rows[-1] = vectors("red")[0]
    pack = LabelPack(names=[f"label {i}" for i in range(10_000)], vectors=rows, space=SPACE)
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[..., 0] = 255
    result = Segmenter.load(color_model, threads=1).set_labels(pack).segment(photo)
    assert (result.label_map == 9_999).all() and result.segment_scores.shape == (4, 10_000)
