"""Model files and their sidecars: found, validated, refused in one line."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.color_model import sidecar, write_color_model
from zeroseg.artifact import find_model, read_artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.sidecar import DenseInput, Scoring, parse_sidecar

pytest.importorskip("onnx")

NAN_CENTRE = base64.b64encode(np.full(512, np.nan, "<f4").tobytes()).decode()


def test_reads_what_was_written(color_model):
    artifact = read_artifact(color_model)
    assert artifact.backend == "onnxruntime" and artifact.path == color_model
    assert artifact.sidecar.name == "colors" and artifact.sidecar.input.mean == (0.5, 0.5, 0.5)
    assert read_artifact(str(color_model), backend="onnxruntime") == artifact


def test_a_renamed_pair_still_works(tmp_path, color_model):
    (tmp_path / "other.onnx").write_bytes(color_model.read_bytes())
    (tmp_path / "other.json").write_text(color_model.with_suffix(".json").read_text())
    assert read_artifact(tmp_path / "other.onnx").sidecar.name == "colors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": 1},
            "format 1, this version of zeroseg reads 2; export it again: zeroseg-export model.pt --onnx$",
        ),
        ({"format": 3}, "format 3, this version of zeroseg reads 2$"),
        ({"format": None}, "format None, this version"),
        ({"name": None}, "name: expected a text, got null"),
        ({"embedding_dim": 0}, "embedding_dim: expected a positive integer, got 0"),
        ({"segments": "8"}, 'segments: expected an integer, got "8"'),
        ({"stride": True}, "stride: expected an integer, got true"),
        ({"input": []}, "input: expected an object"),
        ({"input": {**sidecar()["input"], "std": [1, 1]}}, "input: std: expected three numbers"),
        ({"threshold": "high"}, "threshold: expected a number"),
        ({"files": None}, "files: expected an object"),
        ({"scoring": None}, "scoring: expected an object, got null"),
        ({"scoring": {"centre": None, "share": 1}}, r"scoring: share: expected a number in \[0, 1\), got 1"),
        ({"scoring": {"centre": None}}, "scoring: share: expected a number, got null"),
        ({"scoring": {"centre": "AAAA", "share": 0}}, "scoring: centre: expected 512 float32 as base64"),
        ({"scoring": {"centre": "not base64", "share": 0}}, "scoring: centre: expected 512 float32 as base64"),
        ({"scoring": {"centre": [0.5], "share": 0}}, "scoring: centre: expected a text"),
        ({"scoring": {"centre": NAN_CENTRE, "share": 0}}, "scoring: centre: expected finite numbers"),
    ],
)
def test_wrong_sidecar_names_the_key(change, message):
    with pytest.raises(ZerosegError, match=f"^tiny.json: {message}"):
        parse_sidecar(sidecar(**change), "tiny.json")


def test_sidecar_that_is_no_object():
    with pytest.raises(ZerosegError, match="expected a JSON object, got list"):
        parse_sidecar([], "tiny.json")


def test_changed_file_is_refused(tmp_path):
    path = write_color_model(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ZerosegError, match="sha256 differs"):
        read_artifact(path)


def test_sidecar_without_the_checksum_is_refused(tmp_path):
    path = write_color_model(tmp_path, files={"other.pt": "0"})
    with pytest.raises(ZerosegError, match=r"no checksum for it, only for \['other.pt'\]"):
        read_artifact(path)


def test_missing_or_broken_sidecar(tmp_path):
    path = write_color_model(tmp_path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ZerosegError, match="colors.json: cannot be read as JSON"):
        read_artifact(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ZerosegError, match="its sidecar colors.json is missing"):
        read_artifact(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/model.onnx", "no such model file"),
        ("nowhere.pt", "no such model file"),
        ("huge", "model 'huge': no such file, and the bundled models are:"),
    ],
)
def test_missing_model(name, message):
    with pytest.raises(ZerosegError, match=message):
        find_model(name)


def test_folder_and_foreign_file(tmp_path):
    with pytest.raises(ZerosegError, match="is a folder, expected a model file"):
        find_model(tmp_path)
    (tmp_path / "model.zip").write_bytes(b"")
    with pytest.raises(ZerosegError, match="not a model file, expected .onnx, .pt"):
        read_artifact(tmp_path / "model.zip")


def test_installation_without_bundled_model(monkeypatch, tmp_path):
    monkeypatch.setattr("zeroseg.artifact.BUNDLED", tmp_path)
    with pytest.raises(UnavailableError, match="no bundled model; give a model file with --model"):
        read_artifact()


def test_bundled_model_is_found_by_name(monkeypatch, tmp_path):
    write_color_model(tmp_path, name="tiny")
    monkeypatch.setattr("zeroseg.artifact.BUNDLED", tmp_path)
    assert read_artifact().path == read_artifact("tiny").path == tmp_path / "tiny.onnx"


def test_backend_that_cannot_read_the_file(color_model):
    with pytest.raises(ZerosegError, match=r"backend torch reads .pt, not colors.onnx; use backend onnxruntime"):
        read_artifact(color_model, backend="torch")
    with pytest.raises(ZerosegError, match="backend 'tensorflow': expected auto, onnxruntime, onnxruntime-cuda"):
        read_artifact(color_model, backend="tensorflow")


def test_sidecar_is_json_that_others_can_write(color_model):
    document = json.loads(color_model.with_suffix(".json").read_text())
    assert set(sidecar()) == set(document)


def test_a_sidecar_written_and_read_again_is_the_same():
    rng = np.random.default_rng(0)
    centre, background = rng.normal(size=512).astype(np.float32), rng.normal(size=(2, 512)).astype(np.float32)
    plain = parse_sidecar(sidecar(card={"photos": 3}, files={"a.onnx": "0"}), "x")
    assert plain.to_dict() == sidecar(card={"photos": 3}, files={"a.onnx": "0"})
    dense = DenseInput(64, 32, "naclip", "open_clip:A/B", 7, ("sky", "sea"), background)
    full = replace(plain, scoring=Scoring(centre, 0.65), dense=dense)
    again = parse_sidecar(json.loads(json.dumps(full.to_dict())), "x")
    np.testing.assert_array_equal(again.scoring.centre, centre)
    np.testing.assert_array_equal(again.dense.background_vectors, background)
    assert again.scoring.share == 0.65
    empty = replace(dense, background_vectors=None)
    assert replace(again.dense, background_vectors=None) == empty
    assert replace(again, scoring=Scoring(), dense=None) == replace(plain, scoring=Scoring())
