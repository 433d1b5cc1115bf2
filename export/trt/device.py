"""The code that a bundle runs on the device: build the engine, compare it with recorded outputs, write its manifest.

    python3 -m zeroseg.export.trt.device BUNDLE

It needs TensorRT, NumPy, Pillow, click, tqdm and cuda-bindings or PyCUDA, but neither torch nor ONNX Runtime.
"""

import json
import shutil
from pathlib import Path

import click
import numpy as np

from zeroseg.artifact import read_artifact
from zeroseg.commands.command import Command
from zeroseg.errors import ZerosegError
from zeroseg.export.parity import Case, LabelSet, make_cases, network_images, outputs_in
from zeroseg.files import sha256, whole_file
from zeroseg.photos.decode import load_image
from zeroseg.runtime.base import Runner, outputs_of

DESCRIPTION = "bundle.json"
EXPECTED = "check/expected.npz"


class RecordedRunner(Runner):
    """Returns the recorded outputs of its cases, and nothing else."""

    backend = "recorded"

    def __init__(self, cases: list[Case], outputs: list[dict[str, np.ndarray]]):
        self._outputs = {id(case.image): answer for case, answer in zip(cases, outputs, strict=True)}
        self._cases = cases  # keeps the ids alive

    def _run(self, image):
        return self._outputs[id(image)]


def record(runner: Runner, cases: list[Case], path: Path) -> None:
    """Write the cases' two label sets, their thresholds, and the runner's outputs."""
    answers = {
        "labels.0": cases[0].vectors,
        "labels.1": cases[1].vectors,
        "threshold": cases[0].threshold,
        "near": np.array([cases[0].near, cases[1].near]),
    }
    for index, case in enumerate(cases):
        output = runner.run(case.image)
        answers |= {f"{index}.{name}": output[name] for name in outputs_in(output)}
    np.savez_compressed(path, **answers)


def recorded(folder: Path) -> tuple[RecordedRunner, list[Case]]:
    """The bundle's cases, made again from its photos, and the model's recorded outputs."""
    description = describe(folder)
    artifact = read_artifact(folder / description["onnx"], "onnxruntime")
    photos = [load_image(folder / "check" / name) for name in description["photos"]]
    with np.load(folder / EXPECTED) as answers:
        threshold = float(answers["threshold"])
        sets = [LabelSet(answers[f"labels.{i}"], threshold, float(near)) for i, near in enumerate(answers["near"])]
        cases = make_cases(artifact.sidecar, network_images(artifact.sidecar, photos), sets)
        outputs = [
            {name: answers[f"{index}.{name}"] for name in outputs_of(artifact.sidecar)} for index in range(len(cases))
        ]
    return RecordedRunner(cases, outputs), cases


def describe(folder: Path) -> dict:
    """Read bundle.json and check the checksum of every file in it."""
    path = folder / DESCRIPTION
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        files = dict(document["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZerosegError(f"{path}: is not a bundle's description ({error})") from error
    for name, digest in files.items():
        file = folder / name
        if not file.is_file():
            raise ZerosegError(f"{file}: missing; copy the whole bundle again")
        if sha256(file) != digest:
            raise ZerosegError(f"{file}: differs from the bundle's (sha256); copy the bundle again")
    return document


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="BUNDLE")
@click.option("--check", is_flag=True, help="Only compare the existing engine with the recorded outputs of the model.")
def main(folder, check):
    """Build the engine of a bundle on this device and compare it with the model."""
    from zeroseg.export.trt.build import build_engine, check_engine
    from zeroseg.export.trt.builder import BuildOptions
    from zeroseg.runtime.trt_engine import manifest_path

    description = describe(folder)
    onnx = folder / description["onnx"]
    engine = onnx.with_suffix(".engine")
    if check and not (engine.is_file() and manifest_path(engine).is_file()):
        raise ZerosegError(f"{engine}: does not exist yet; ./build.sh makes it")
    reference, cases = recorded(folder)
    if check:
        check_engine(engine, reference, cases, report=click.echo)
        return
    options = BuildOptions(**description["options"], timing_cache=folder / "timing.cache")
    file = build_engine(onnx, engine, options, reference, cases, rebuild="./build.sh", report=click.echo)
    for target in description.get("served_as", []):  # where Triton Inference Server looks for it
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / target) as partial:
            shutil.copyfile(engine, partial)
    click.echo(
        f"wrote {engine} ({file.manifest.size_bytes / 1e6:.1f} MB) and {engine.name}.json: "
        f"{file.manifest.gpu}, TensorRT {file.manifest.tensorrt}"
    )


if __name__ == "__main__":
    main()
