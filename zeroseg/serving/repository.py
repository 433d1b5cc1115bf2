"""Write the inference server's model repository: preprocess -> network -> decode, and their ensemble.

    zeroseg             photo (bytes), label_embeddings (N, D), threshold (1,) -> label_map, confidence, ...
    zeroseg_preprocess  photo -> pixels, and image, the network's input
    zeroseg_network     image -> segment maps and embeddings: several instances, dynamic batching
    zeroseg_decode      segment maps and embeddings, pixels, labels, threshold -> label map of the photo's size

Labels are not an input of the network, so the server batches images of one size with any labels. One of the server's
own back ends or our Python code (zeroseg.serving.steps) runs zeroseg_network.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from zeroseg.sidecar import Sidecar

ENSEMBLE, PREPROCESS, NETWORK, DECODE = "zeroseg", "zeroseg_preprocess", "zeroseg_network", "zeroseg_decode"
MODEL_PY = '''"""{what}: the work is zeroseg's own."""

import os
import sys

# some of the server's Python processes run isolated: they do not read PYTHONPATH
sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]

from zeroseg.serving.steps import {step} as TritonPythonModel  # noqa: E402, F401
'''


@dataclass(frozen=True)
class Batching:
    """instances: of the network. max_batch: largest batch; 1: no batching. window_ms: how long a photo waits for
    others.

    queue: number of photos that may wait; more are refused, in one line.
    """

    instances: int = 2
    max_batch: int = 8
    window_ms: float = 2.0
    queue: int = 64


def write_repository(folder: Path, sidecar: Sidecar, batching: Batching, network: dict[str, str]) -> None:
    """Write the repository of a network with segments into the new folder; our Python code runs the network.

    network  its model_file, backend and threads.
    """
    write_steps(folder, sidecar, batching)
    _write_code(write_network(folder, sidecar, batching, _python(batching), **network), "Network")


def write_steps(folder: Path, sidecar: Sidecar, batching: Batching) -> None:
    """Write all models but zeroseg_network."""
    segments, dim = sidecar.segments, sidecar.embedding_dim
    photo, labels = ("photo", "UINT8", "-1"), ("label_embeddings", "FP32", f"-1, {dim}")
    image, pixels = ("image", "FP32", "1, 3, -1, -1"), ("pixels", "UINT8", "-1, -1, 3")
    threshold = ("threshold", "FP32", "1", "optional: true")
    encoded = [
        ("segment_maps", "FP32", f"1, {segments}, -1, -1"),
        ("segment_embeddings", "FP32", f"1, {segments}, {dim}"),
        ("image_embedding", "FP32", f"1, {dim}"),
    ]
    answers = [
        ("label_map", "INT16", "-1, -1"),
        ("confidence", "FP32", "-1, -1"),
        ("segment_labels", "INT16", f"{segments}"),
        ("scores", "FP32", "-1"),
    ]
    steps = [(PREPROCESS, [photo], [image, pixels]), (DECODE, [*encoded, pixels, labels, threshold], answers)]
    code = [*_python(batching), *_parameters(sidecar)]
    for name, inputs, outputs in steps:
        _write_code(_write(folder, name, inputs, outputs, *code), name.removeprefix(f"{ENSEMBLE}_").capitalize())
    steps.insert(1, (NETWORK, [image], encoded))
    whole = _write(folder, ENSEMBLE, [photo, labels, threshold], answers, 'platform: "ensemble"', _ensemble(steps))
    (whole / "README").write_text("An ensemble has no file, but needs this folder.\n", encoding="utf-8")


def write_network(folder: Path, sidecar: Sidecar, batching: Batching, runs: list[str], **about: str) -> Path:
    """Write the configuration of zeroseg_network; returns the folder for its file.

    runs   lines of config.pbtxt: what runs it and where.
    about  parameters; clients find the sidecar beside them.
    """
    outputs = [("image_embedding", "FP32", f"{sidecar.embedding_dim}")]
    if sidecar.dense is None:
        segments = ("segment_embeddings", "FP32", f"{sidecar.segments}, {sidecar.embedding_dim}")
        outputs = [("segment_maps", "FP32", f"{sidecar.segments}, -1, -1"), segments, *outputs]
    else:
        outputs = [("place_embeddings", "FP32", f"{sidecar.embedding_dim}, -1, -1"), *outputs]
    lines = [*runs, _dynamic_batching(batching), *_parameters(sidecar, **about)]
    return _write(folder, NETWORK, [("image", "FP32", "3, -1, -1")], outputs, *lines, max_batch=batching.max_batch)


def _python(batching: Batching) -> list[str]:
    return ['backend: "python"', f"instance_group [ {{ kind: KIND_CPU, count: {batching.instances} }} ]"]


def _dynamic_batching(batching: Batching) -> str:
    """The scheduler: it waits window_ms for more photos, and refuses photos beyond a queue of this length."""
    window = f"max_queue_delay_microseconds: {round(1000 * batching.window_ms)}, " if batching.max_batch > 1 else ""
    return f"dynamic_batching {{ {window}default_queue_policy {{ max_queue_size: {batching.queue} }} }}"


def _ensemble(steps: list[tuple[str, list[tuple], list[tuple]]]) -> str:
    """The steps (name, inputs, outputs) in a row; a tensor has the same name in all of them."""
    texts = []
    for name, inputs, outputs in steps:
        maps = [
            f'    {kind} {{ key: "{entry[0]}" value: "{entry[0]}" }}'
            for kind, entries in (("input_map", inputs), ("output_map", outputs))
            for entry in entries
        ]
        texts.append(f'  {{\n    model_name: "{name}"\n    model_version: -1\n' + "\n".join(maps) + "\n  }")
    return "ensemble_scheduling {\n  step [\n" + ",\n".join(texts) + "\n  ]\n}"


def _write(folder: Path, name: str, inputs: list[tuple], outputs: list[tuple], *lines: str, max_batch: int = 0) -> Path:
    """Write config.pbtxt of a model; a tensor is its name, type, shape and more. Returns the folder of its version."""
    text = [f'name: "{name}"', f"max_batch_size: {max_batch}"]
    for side, entries in (("input", inputs), ("output", outputs)):
        tensors = [
            f'  {{ name: "{tensor}", data_type: TYPE_{kind}, ' + ", ".join([f"dims: [ {dims} ]", *more]) + " }"
            for tensor, kind, dims, *more in entries
        ]
        text.append(f"{side} [\n" + ",\n".join(tensors) + "\n]")
    version = folder / name / "1"
    version.mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text("\n".join([*text, *lines]) + "\n", encoding="utf-8")
    return version


def _write_code(version: Path, step: str) -> None:
    """model.py for a class of zeroseg/serving/steps.py."""
    (version / "model.py").write_text(MODEL_PY.format(what=version.parent.name, step=step), encoding="utf-8")


def _parameters(sidecar: Sidecar, **about: str) -> list[str]:
    values = {"sidecar": json.dumps(sidecar.to_dict()), **about}
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return [f'parameters {{ key: "{key}" value {{ string_value: {value} }} }}' for key, value in quoted.items()]
