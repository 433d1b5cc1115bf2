"""Dense open_clip towers as ONNX files: the graph against PyTorch, the torch-free runtime against Segmenter's own way,
and one line where something is wrong.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")
onnx = pytest.importorskip("onnx")
pytest.importorskip("timm")
pytest.importorskip("onnxscript")

from tests.dense import tiny_towers  # noqa: E402
from tests.export.tower_gate import image_of  # noqa: E402
from zeroseg import Segmenter  # noqa: E402
from zeroseg.artifact import read_artifact  # noqa: E402
from zeroseg.dense.towers import read_tower  # noqa: E402
from zeroseg.errors import ZerosegError  # noqa: E402
from zeroseg.export import divergence  # noqa: E402
from zeroseg.export import to_onnx as export_module  # noqa: E402
from zeroseg.export.cli import main  # noqa: E402
from zeroseg.export.divergence import node_values  # noqa: E402
from zeroseg.export.wrapper import DenseExportModel  # noqa: E402
from zeroseg.runtime.base import DENSE_OUTPUTS  # noqa: E402
from zeroseg.words import LabelPack  # noqa: E402

RUNTIME = 1e-5  # the same graph in the runtime and a loop over windows
FLOAT16 = (
    2**-12
)  # a step of the float16 to which embeddings are rounded: seen 3.8e-5 in a score, where a value is at a tie


def unit_rows(count, dim=20, seed=0):
    rows = np.random.default_rng(seed + count).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_graph_is_plain_and_its_axes_are_free(dense_onnx):
    graph = onnx.load(dense_onnx[0]).graph
    operators = Counter(node.op_type for node in graph.node)
    assert {node.domain for node in graph.node} == {""}
    assert not set(operators) & {"Attention", "If", "Loop", "Scan", "Resize", "Einsum", "ScatterND", "NonZero"}
    for value in [*graph.input, *graph.output]:
        names = [dim.dim_param or None for dim in value.type.tensor_type.shape.dim]
        assert names == list(export_module.AXES[value.name]), value.name


def test_file_describes_itself_and_not_the_machine(dense_onnx, dense_name):
    path, said = dense_onnx
    assert "same label on 100.000 % of pixels" in said and "place_embeddings" in said
    document = json.loads(path.with_suffix(".json").read_text())
    assert document["dense"]["text"] == "open_clip:zeroseg-tiny-export/zeroseg-tiny-export.pt"
    metadata = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    described = json.loads(metadata[export_module.METADATA_KEY])
    assert {**described, "files": document["files"], "precision": "fp32"} == document
    folder = str(Path(dense_name.partition("/")[2]).parent).encode()
    assert folder not in path.read_bytes() + path.with_suffix(".json").read_bytes()


def test_two_label_sets_on_one_file_give_the_masks_of_pytorch(dense_onnx, dense_name, dense_photo):
    """Windows, background words and the decoding in the way; in the runtime that has no torch in it."""
    onnx_, torch_ = Segmenter.load(dense_onnx[0]), Segmenter.load(dense_name)
    assert (onnx_.runner.backend, torch_.runner.backend) == ("onnxruntime", "torch")
    space, seen = torch_.sidecar.embedding_space, []
    for count in (2, 9):
        pack = LabelPack([f"label {i}" for i in range(count)], unit_rows(count), space)
        got, expected = (segmenter.set_labels(pack).segment(dense_photo) for segmenter in (onnx_, torch_))
        np.testing.assert_allclose(got.confidence, expected.confidence, atol=RUNTIME)
        np.testing.assert_allclose(got.place_scores, expected.place_scores, atol=RUNTIME)
        assert (got.label_map == expected.label_map).mean() >= 0.999
        assert len(np.unique(expected.label_map)) > 1
        seen.append(got.label_map)
    assert (seen[0] != seen[1]).any()


def test_windows_of_another_size_take_positions_as_pytorch_does(dense_onnx, dense_name, dense_photo):
    """The same file with a description that asks for windows of 96: it was traced at none of these sizes."""
    from dataclasses import replace

    onnx_, torch_ = Segmenter.load(dense_onnx[0]), Segmenter.load(dense_name + ",window=96,stride=32,short_side=144")
    onnx_.sidecar = replace(
        onnx_.sidecar, input=torch_.sidecar.input, dense=replace(onnx_.sidecar.dense, window=96, stride=32)
    )
    pack = LabelPack(["a", "b", "c"], unit_rows(3), torch_.sidecar.embedding_space)
    got, expected = (segmenter.set_labels(pack).segment(dense_photo) for segmenter in (onnx_, torch_))
    difference = np.abs(got.place_scores - expected.place_scores)
    assert (difference > RUNTIME).mean() < 0.02 and difference.max() < FLOAT16
    assert (got.label_map == expected.label_map).mean() >= 0.999


def test_half_precision_keeps_what_only_depends_on_sizes(dense_onnx, tmp_path, monkeypatch):
    """Without the search for further nodes, of which the gate needs some for a random tower."""
    from zeroseg.export import variants
    from zeroseg.export.onnx_file import write_onnx

    monkeypatch.setattr(variants, "find_islands", lambda *arguments: frozenset())
    document = json.loads(dense_onnx[0].with_suffix(".json").read_text())
    half, _ = variants.Workshop(onnx.load(dense_onnx[0]), document, None, tmp_path)._fp16()
    weights = [
        (tensor.data_type, np.prod(tensor.dims)) for tensor in half.graph.initializer if np.prod(tensor.dims) > 256
    ]
    assert sum(kind == onnx.TensorProto.FLOAT16 for kind, _ in weights) > 10
    assert [size for kind, size in weights if kind == onnx.TensorProto.FLOAT] == [16 * 32]  # the places' positions
    write_onnx(half, tmp_path / "half.onnx", document)
    assert open_scores(tmp_path / "half.onnx").dtype == np.float32


def open_scores(path):
    from zeroseg.runtime.opening import open_runner

    return open_runner(read_artifact(path), 1).run(image_of(16, (1, 4, 4)))["place_embeddings"]


def test_openvino_gives_the_same_scores(dense_onnx):
    pytest.importorskip("openvino")
    from zeroseg.runtime.opening import open_runner

    image = image_of(16, (2, 4, 4))
    artifacts = [read_artifact(dense_onnx[0], name) for name in ("onnxruntime", "openvino")]
    first, second = (open_runner(artifact, 1).run(image) for artifact in artifacts)
    assert first.keys() == second.keys() == set(DENSE_OUTPUTS)
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, atol=1e-4)


def test_command_runs_without_torch_from_a_label_pack(dense_onnx, dense_name, dense_photo, tmp_path):
    """zeroseg words where torch is; zeroseg-infer in a process that cannot import it, words from the pack."""
    from zeroseg.cli import main as zeroseg

    labels, out = tmp_path / "labels.npz", tmp_path / "out"
    done = CliRunner().invoke(zeroseg, ["words", "cat,fire truck,dog", "--model", dense_name, "-o", str(labels)])
    assert done.exit_code == 0, done.output
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'open_clip', 'timm'))); "
        "from zeroseg.cli import infer; infer()"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(dense_photo),
        "--model",
        str(dense_onnx[0]),
        "--out",
        str(out),
        "--save",
        "labels",
    ]
    words = ["--labels", "Dog,cat", "--text", str(labels)]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = Segmenter.load(dense_name).set_labels(["dog", "cat"]).segment(dense_photo).label_map
    got = np.asarray(Image.open(out / "photo_labels.png")).astype(int)
    assert (got == expected + 1).mean() >= 0.999
    done = subprocess.run([*command, "--labels", "dog,cat"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert (
        "torch is not installed; make a label pack on a machine that has it: zeroseg words WORDS --model open"
        in done.stderr
    )
    done = subprocess.run([*command, "--labels", "dgo", "--text", str(labels)], capture_output=True, text=True)
    assert done.returncode == 1 and "'dgo' is not among its 3 names; near it: dog" in done.stderr


def test_packs_that_do_not_fit_are_one_line(dense_onnx, tmp_path):
    segmenter = Segmenter.load(dense_onnx[0])
    space = segmenter.sidecar.embedding_space
    for pack, got in (
        (LabelPack(["cat"], unit_rows(1, 20), "openai/clip-vit-base-patch32"), "20 in openai/clip-vit"),
        (LabelPack(["cat"], unit_rows(1, 24), space), f"24 in {space}"),
    ):
        with pytest.raises(ValueError, match=got) as error:
            segmenter.set_labels(pack)
        assert "\n" not in str(error.value)
    document = json.loads(dense_onnx[0].with_suffix(".json").read_text())
    document["embedding_dim"], document["dense"]["background"] = 24, []
    document["dense"]["background_vectors"] = ""
    path = tmp_path / "clip.onnx"
    path.write_bytes(dense_onnx[0].read_bytes())
    path.with_suffix(".json").write_text(json.dumps(document))
    with pytest.raises(ZerosegError, match="gives embeddings of 20 numbers, but its sidecar says 24"):
        Segmenter.load(path)


def test_a_damaged_export_leaves_nothing_behind(dense_onnx, dense_name, dense_photo, tmp_path, monkeypatch):
    def damaged(model, document):
        graph = onnx.load(dense_onnx[0])
        weights = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [32, 3, 16, 16])
        weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
        return graph

    old = tmp_path / "clip.onnx"
    old.write_bytes(b"an older export")
    monkeypatch.setattr(export_module, "to_onnx", damaged)
    monkeypatch.setattr(export_module, "trace", lambda network: None)  # it takes seconds, and is tested where it is
    monkeypatch.setattr(divergence, "torch_values", lambda program, feed: node_values(onnx.load(dense_onnx[0]), feed))
    done = invoke(dense_name, "--onnx", "-o", old, "--photo", dense_photo)
    error = done.output.splitlines()[-1]
    assert done.exit_code == 1 and "not written" in error and "required; first node that diverges" in error
    assert "(Conv), relative error 2, error of its inputs 0" in error
    assert old.read_bytes() == b"an older export" and [path.name for path in tmp_path.iterdir()] == ["clip.onnx"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{dense_name}", "--onnx", "--masks"], "--masks: not possible for a network without segments"),
        (
            ["{dense_name}", "--onnx", "--gate-masks", "voc", "--gate-photos", "."],
            "--gate-masks: not possible for a network without segments",
        ),
        (
            ["{dense_name},reading=best", "--onnx"],
            "reading: expected maskclip, sclip, clearclip, naclip, scclip, sfp, got 'best'",
        ),
        (["{dense_name},window=100", "--onnx"], "multiple of this tower's patch of 16 pixels, got 100"),
        (["open_clip:zeroseg-tiny-export/nowhere.pt", "--onnx"], "there is no file nowhere.pt"),
        (["open_clip:ViT-B-17/openai", "--onnx"], "no architecture 'ViT-B-17'"),
        (["open_clip:ViT-B-16", "--onnx"], "open_clip needs ARCH/TAG or ARCH/FILE"),
        (["open_clip:TIPSv2-B-14/webli", "--onnx"], "TIPS has no text tower in open_clip or timm, so it cannot read"),
    ],
)
def test_what_cannot_be_exported_is_one_line(dense_name, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = invoke(*(argument.format(dense_name=dense_name) for argument in arguments))
    *steps, error = done.output.splitlines()
    assert done.exit_code == 1 and error.startswith("Error: ") and message in error, done.output
    assert all(step.startswith("loading the model: ") for step in steps) and not list(tmp_path.iterdir())


def test_weights_out_of_reach_and_towers_that_are_refused_are_one_line(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("cannot reach\nthe hub")

    monkeypatch.chdir(tmp_path)
    create = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", refuse)
    done = invoke("open_clip:ViT-B-16/openai", "--onnx")
    assert (
        done.exit_code == 1 and "could not be downloaded; give a file, as in zeroseg-export open_clip:" in done.output
    )
    vision = {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    model = open_clip.model.CLIP(20, vision, tiny_towers.TEXT).eval()
    monkeypatch.setattr(open_clip, "create_model", lambda *args, **options: model)
    done = invoke("open_clip:ViT-B-16/openai", "--onnx")
    assert done.exit_code == 1 and "gives no patch embeddings" in done.output.splitlines()[-1]
    assert create is not None and not list(tmp_path.iterdir())


def test_a_network_too_large_for_one_file_is_refused_before_it_is_traced(monkeypatch):
    monkeypatch.setattr(export_module, "LARGEST_BYTES", 1000)
    tower = read_tower(tiny_towers.make("class-token", layers=2).visual)
    with pytest.raises(ZerosegError, match="GiB of weights, but an ONNX file can hold less than 2 GiB"):
        export_module.trace(DenseExportModel(tower))
