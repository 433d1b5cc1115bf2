"""A model repository for the Triton Inference Server: its config.pbtxt, written as text."""

from pathlib import Path

from zeroseg.artifact import Sidecar
from zeroseg.export.trt.builder import BuildOptions

NAME = "zeroseg"
PLAN = f"triton/{NAME}/1/model.plan"  # in the bundle, made on the device


def write_repository(folder: Path, sidecar: Sidecar, options: BuildOptions) -> None:
    """folder/triton/zeroseg/config.pbtxt, and the folder its engine will be put into."""
    (folder / PLAN).parent.mkdir(parents=True)
    (folder / PLAN).with_name("README").write_text("build.sh puts model.plan here.\n", encoding="utf-8")
    (folder / "triton" / NAME / "config.pbtxt").write_text(config_text(sidecar, options), encoding="utf-8")


def config_text(sidecar: Sidecar, options: BuildOptions) -> str:
    """max_batch_size is 0: label_embeddings has no batch axis, so the server must not add or join any."""
    dim, segments = sidecar.embedding_dim, sidecar.segments
    tensors = {
        "input": [("image", "-1, 3, -1, -1"), ("label_embeddings", f"-1, {dim}")],
        "output": [("segment_maps", f"-1, {segments}, -1, -1"), ("segment_scores", f"-1, {segments}, -1"),
                   ("image_scores", "-1, -1")],
    }  # fmt: skip
    if sidecar.dense is not None:
        tensors["output"] = [("place_scores", "-1, -1, -1, -1"), ("image_scores", "-1, -1")]
    lines = [f'name: "{NAME}"', 'platform: "tensorrt_plan"', "max_batch_size: 0"]
    for side, entries in tensors.items():
        body = ",\n".join(f'  {{ name: "{name}", data_type: TYPE_FP32, dims: [ {dims} ] }}' for name, dims in entries)
        lines.append(f"{side} [\n{body}\n]")
    lines.append("instance_group [ { kind: KIND_GPU, count: 1 } ]")
    lines.append("optimization { cuda { graphs: true } }")
    about = {"embedding_space": sidecar.embedding_space, "threshold": f"{sidecar.threshold:g}",
             "max_photos": str(options.max_batch), "max_labels": str(options.max_labels)}
    lines += [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in about.items()]
    return "\n".join(lines) + "\n"
