"""The model repository of the inference server, written as files: preprocess -> network -> decode, and their ensemble.

    zeroseg             photo (bytes), label_embeddings (N, D), threshold (1,) -> label_map, confidence, ...
    zeroseg_preprocess  photo -> image
    zeroseg_network     image, label_embeddings -> segment maps and scores: several instances, dynamic batching
    zeroseg_decode      segment maps and scores -> label map of the photo's size

Requests with other sizes and other label sets share a batch: zeroseg_network takes them ragged and joins them
(zeroseg/serving/joining.py). It runs the network itself, or asks zeroseg_model, which one of the server's own back ends
runs.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from zeroseg.sidecar import Sidecar

ENSEMBLE, PREPROCESS, NETWORK, DECODE = "zeroseg", "zeroseg_preprocess", "zeroseg_network", "zeroseg_decode"
MODEL = "zeroseg_model"
RAGGED = "allow_ragged_batch: true"
MODEL_PY = '''"""{what}: the work is zeroseg's own."""

import os
import sys

# some of the server's Python processes run isolated: they do not read PYTHONPATH
sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]

from zeroseg.serving.steps import {step} as TritonPythonModel  # noqa: E402, F401
'''


@dataclass(frozen=True)
class Batching:
    """instances: of the network. max_batch: photos in one run; 1 is none. window_ms: how long a photo waits for others.

    queue: photos that may wait; more are refused, in one line.
    """

    instances: int = 2
    max_batch: int = 8
    window_ms: float = 2.0
    queue: int = 64


def write_repository(folder: Path, sidecar: dict | Sidecar, batching: Batching, network: dict[str, str]) -> None:
    """Write the repository into the new folder.

    network  what zeroseg_network is told: model_file, backend, threads; or served_model and max_labels.
    """
    document = sidecar if isinstance(sidecar, dict) else sidecar_document(sidecar)
    for name, (step, config) in _steps(document, batching, network).items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")
        if step is None:
            (version / "README").write_text("An ensemble has no file, but needs this folder.\n", encoding="utf-8")
            continue
        (version / "model.py").write_text(MODEL_PY.format(what=name, step=step), encoding="utf-8")
        (version / "model.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _steps(document: dict, batching: Batching, network: dict[str, str]) -> dict[str, tuple[str | None, str]]:
    """Name -> (class in zeroseg/serving/steps.py or None, config.pbtxt)."""
    dim, segments = document["embedding_dim"], document["segments"]
    photo, labels = ("photo", "UINT8", "-1"), ("label_embeddings", "FP32", f"-1, {dim}")
    size, threshold = ("size", "INT32", "2"), ("threshold", "FP32", "1", "optional: true")
    image, image_labels = ("image", "FP32", "1, 3, -1, -1"), ("labels", "FP32", f"1, -1, {dim}")
    maps, scores = ("segment_maps", "FP32", f"1, {segments}, -1, -1"), ("segment_scores", "FP32", f"1, {segments}, -1")
    answers = [
        ("label_map", "INT16", "-1, -1"),
        ("confidence", "FP32", "-1, -1"),
        ("segment_labels", "INT16", f"{segments}"),
        ("scores", "FP32", "-1"),
    ]
    ragged = [("image", "FP32", "3, -1, -1", RAGGED), (*labels, RAGGED)]
    batched = [
        ("segment_maps", "FP32", f"{segments}, -1, -1"),
        ("segment_scores", "FP32", f"{segments}, -1"),
        ("image_scores", "FP32", "-1"),
    ]
    python = ('backend: "python"', f"instance_group [ {{ kind: KIND_CPU, count: {batching.instances} }} ]")
    return {
        PREPROCESS: ("Preprocess", _model(PREPROCESS, [photo, labels], [image, image_labels, size], *python)),
        NETWORK: (
            "Network",
            _model(
                NETWORK,
                ragged,
                batched,
                *python,
                dynamic_batching(batching),
                *_parameters(network),
                max_batch=batching.max_batch,
            ),
        ),
        DECODE: ("Decode", _model(DECODE, [maps, scores, size, threshold], answers, *python)),
        ENSEMBLE: (None, _model(ENSEMBLE, [photo, labels, threshold], answers, 'platform: "ensemble"', ensemble())),
    }


def dynamic_batching(batching: Batching) -> str:
    """The scheduler: waits window_ms for more photos, refuses what would wait behind more than queue others."""
    if batching.max_batch == 1:
        return f"dynamic_batching {{ default_queue_policy {{ max_queue_size: {batching.queue} }} }}"
    return (
        f"dynamic_batching {{ max_queue_delay_microseconds: {round(1000 * batching.window_ms)}, "
        f"default_queue_policy {{ max_queue_size: {batching.queue} }} }}"
    )


def ensemble() -> str:
    """preprocess -> network -> decode, by the names of their tensors (the server's name -> ours)."""
    steps = [
        (PREPROCESS, ["photo", "label_embeddings"], {"image": "image", "labels": "labels", "size": "size"}),
        (NETWORK, {"image": "image", "label_embeddings": "labels"}, ["segment_maps", "segment_scores"]),
        (
            DECODE,
            ["segment_maps", "segment_scores", "size", "threshold"],
            ["label_map", "confidence", "segment_labels", "scores"],
        ),
    ]
    texts = []
    for name, inputs, outputs in steps:
        lines = [
            f'    {kind} {{ key: "{theirs}" value: "{ours}" }}'
            for kind, names in (("input_map", inputs), ("output_map", outputs))
            for theirs, ours in (names.items() if isinstance(names, dict) else zip(names, names))
        ]
        texts.append(f'  {{\n    model_name: "{name}"\n    model_version: -1\n' + "\n".join(lines) + "\n  }")
    return "ensemble_scheduling {\n  step [\n" + ",\n".join(texts) + "\n  ]\n}"


def sidecar_document(sidecar: Sidecar) -> dict:
    """The sidecar of a network with segments, as the JSON object that parse_sidecar() reads."""
    document = {field.name: getattr(sidecar, field.name) for field in fields(sidecar) if field.name != "dense"}
    document["input"] = {field.name: getattr(sidecar.input, field.name) for field in fields(sidecar.input)}
    return {"format": 1, **document}


def native_config(document: dict, platform: str, instance_group: str, *more: str, about: dict[str, str]) -> str:
    """config.pbtxt of zeroseg_model: a network's file as an export writes it, in the server's back end for it.

    max_batch_size is 0: label_embeddings has no batch axis, so the server must not add or join any.
    """
    dim = document["embedding_dim"]
    outputs = [("image_scores", "FP32", "-1, -1")]
    if document.get("dense") is None:
        segments = document["segments"]
        outputs = [
            ("segment_maps", "FP32", f"-1, {segments}, -1, -1"),
            ("segment_scores", "FP32", f"-1, {segments}, -1"),
            *outputs,
        ]
    else:
        outputs = [("place_scores", "FP32", "-1, -1, -1, -1"), *outputs]
    return _model(
        MODEL,
        [("image", "FP32", "-1, 3, -1, -1"), ("label_embeddings", "FP32", f"-1, {dim}")],
        outputs,
        f'platform: "{platform}"',
        f"instance_group [ {{ {instance_group} }} ]",
        *more,
        *_parameters(about),
    )


def _model(name: str, inputs, outputs, kind: str, *more: str, max_batch: int = 0) -> str:
    lines = [f'name: "{name}"', kind, f"max_batch_size: {max_batch}"]
    for side, entries in (("input", inputs), ("output", outputs)):
        body = ",\n".join(
            f'  {{ name: "{entry[0]}", data_type: TYPE_{entry[1]}, dims: [ {entry[2]} ]'
            + "".join(f", {extra}" for extra in entry[3:])
            + " }"
            for entry in entries
        )
        lines.append(f"{side} [\n{body}\n]")
    return "\n".join([*lines, *more]) + "\n"


def _parameters(values: dict[str, str]) -> list[str]:
    return [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in values.items()
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
