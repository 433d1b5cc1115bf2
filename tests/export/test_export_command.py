"""zeroseg-export as a user meets it: a file that a Segmenter opens, or one line and nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from zeroseg.export.cli import main
from zeroseg.export.parity import draw_scene
from zeroseg.model import save_checkpoint
from zeroseg.segment.segmenter import Segmenter

numpy_helper = pytest.importorskip("onnx").numpy_helper
pytest.importorskip("onnxscript")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model_pt(make_model, sidecar, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, make_model("vit"), sidecar=sidecar)
    return path


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def files_beside(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_exported_file_was_compared_and_described(model_pt, tmp_path):
    out = tmp_path / "deploy" / "net.onnx"
    out.parent.mkdir()
    done = invoke(model_pt, "--onnx", "-o", out)
    assert done.exit_code == 0, done.output
    assert "same label on 100.000 % of pixels" in done.output and "MB" in done.output
    assert files_beside(out) == ["net.json", "net.onnx"]
    assert list(json.loads((out.parent / "net.json").read_text())["files"]) == ["net.onnx"]


def test_exported_file_gives_the_models_masks(model_pt):
    from zeroseg.words import LabelPack

    out = model_pt.with_suffix(".onnx")
    assert invoke(model_pt, "--onnx").exit_code == 0
    photo = draw_scene(np.random.default_rng(3), (90, 120))
    for count in (2, 6):
        vectors = torch.nn.functional.normalize(torch.randn(count, 16), dim=1).numpy()
        names = [f"label {i}" for i in range(count)]
        pack = LabelPack(names=names, vectors=vectors, space="test/space")
        onnx, torch_ = (Segmenter.load(path).set_labels(pack).segment(photo) for path in (out, model_pt))
        assert (onnx.label_map == torch_.label_map).mean() >= 0.995


def test_default_output_lies_beside_the_model(bundled_pt, tmp_path):
    model_pt, photo = tmp_path / "model.pt", ROOT / "docs/photos/chelsea.jpg"
    model_pt.write_bytes(bundled_pt.read_bytes())  # float16 weights lose nothing more
    done = invoke(model_pt, "--onnx", "--weights", "float16", "--photo", photo)
    assert done.exit_code == 0, done.output
    assert files_beside(model_pt) == ["model.json", "model.onnx", "model.pt"]
    assert "same label on 100.000 % of pixels" in done.output and "of 4 decoded photos" in done.output


def test_failed_parity_leaves_nothing_behind(model_pt, monkeypatch):
    import zeroseg.export.to_onnx

    export = zeroseg.export.to_onnx.to_onnx

    def damaged(model, sidecar, **options):
        exported = export(model, sidecar, **options)
        node = [node for node in exported.graph.node if node.op_type == "LayerNormalization"][-1]
        weight = next(tensor for tensor in exported.graph.initializer if tensor.name == node.input[1])
        node.input[1] = "negated"  # of this node alone: equal weights are stored once
        exported.graph.initializer.append(numpy_helper.from_array(-numpy_helper.to_array(weight), "negated"))
        return exported

    old = model_pt.with_suffix(".onnx")
    old.write_bytes(b"an older export")
    monkeypatch.setattr(zeroseg.export.to_onnx, "to_onnx", damaged)
    done = invoke(model_pt, "--onnx")
    assert done.exit_code == 1
    error = done.output.splitlines()[-1]
    assert error.startswith("Error: ") and "not written" in error and "0.999 is required" in error
    assert (
        "first node that diverges: " in error
        and "(LayerNormalization), relative error 2, error of its inputs " in error
    )
    assert files_beside(model_pt) == ["model.onnx", "model.pt"] and old.read_bytes() == b"an older export"


def test_tensorrt_says_what_it_needs(model_pt, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # not here, even where it is
    done = invoke(model_pt, "--trt")
    assert done.exit_code == 1
    assert done.output.startswith("Error: --trt: building an engine ") and done.output.count("\n") == 1
    assert "--bundle TARGET makes a folder that builds the engine on the device" in done.output
    assert files_beside(model_pt) == ["model.pt"]


def test_dry_run_writes_nothing(model_pt):
    done = invoke(model_pt, "--onnx", "-n")
    assert done.exit_code == 0 and "would export" in done.output
    assert files_beside(model_pt) == ["model.pt"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--onnx", "-o", "model.bin"], "expected a name that ends in .onnx, got model.bin"),
        (["--onnx", "-o", "nowhere/model.onnx"], "nowhere: no such folder"),
        ([], "expected exactly one of --onnx"),
    ],
)
def test_wrong_options_are_explained(model_pt, arguments, message):
    done = invoke(model_pt, *arguments)
    assert done.exit_code == 2 and message in done.output and "Traceback" not in done.output


@pytest.mark.parametrize(
    "content, message",
    [(b"no checkpoint", "not a zeroseg checkpoint"), ({"format": 7, "state_dict": {}}, "checkpoint format 7")],
)
def test_wrong_files_are_explained(tmp_path, content, message):
    path = tmp_path / "model.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    done = invoke(path, "--onnx")
    assert done.exit_code == 1 and done.output.startswith("Error: ") and message in done.output
    assert done.output.count("\n") == 1 and files_beside(path) == ["model.pt"]


def test_what_was_exported_is_not_exported_again(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"whatever it is")
    done = invoke(path, "--onnx", "-o", tmp_path / "other.onnx")
    assert done.exit_code == 1 and "model.onnx: expected a model.pt or an open_clip model's name" in done.output
    assert "backend" not in done.output and done.output.count("\n") == 1


def test_checkpoint_without_a_description_is_refused(make_model, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, make_model("vit"))
    done = invoke(path, "--onnx")
    assert done.exit_code == 1 and "has weights but no sidecar" in done.output


def test_without_onnx_the_extra_is_named(tmp_path):
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from zeroseg.export.cli import main\n"
        f"main([{str(tmp_path / 'm.pt')!r}, '--onnx', '-o', {str(tmp_path / 'm.onnx')!r}])"
    )
    (tmp_path / "m.pt").write_bytes(b"")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'zeroseg[export]'" in done.stderr and "Traceback" not in done.stderr
