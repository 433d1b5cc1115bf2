"""A bundle: a folder to copy to a device, with everything to build, check and run the engine there in five commands.

python/ has the code in a wheel's layout, so the device needs only a few small packages and no torch. On the device the
engine is compared with the model's outputs, which are recorded here in PyTorch.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import zeroseg
from zeroseg.artifact import read_artifact
from zeroseg.commands.words import model_pack
from zeroseg.dense.spec import default_output, is_dense_name
from zeroseg.errors import ZerosegError
from zeroseg.export.gate import photos_of
from zeroseg.export.gate_labels import gate_cases
from zeroseg.export.run import ExportOptions, prepare
from zeroseg.export.steps import Steps
from zeroseg.export.trt.builder import BuildOptions
from zeroseg.export.trt.code_copy import copy_code
from zeroseg.export.trt.device import DESCRIPTION, EXPECTED, record
from zeroseg.export.trt.serving import PLAN, write_serving
from zeroseg.files import sha256
from zeroseg.runtime.base import Runner
from zeroseg.runtime.opening import open_runner
from zeroseg.sidecar import Sidecar

LIMIT_MB = 5  # what a bundle may weigh beyond its model
LABELS = "person,cat,dog,car,bicycle,tree,sky,grass,road,building,chair,table"
CHECK_PHOTOS = 4
OTHER_WORDS = "For other words, make a labels.npz on a machine that has zeroseg (`zeroseg words --help`).\n"


@dataclass(frozen=True)
class Target:
    """cuda: major version of its CUDA, for cuda-bindings. notes go into the README."""

    cuda: int
    notes: str
    served: bool = False


ORIN = (
    "JetPack 6.2 (TensorRT 10.3, CUDA 12.6) and JetPack 7.2 (TensorRT 10.16, from 7.2.2 on 11.4; CUDA 13). On JetPack "
    '7.2 write "cuda-bindings==13.*" in step 3. The engine belongs to the JetPack that built it: after an upgrade run '
    "`./build.sh` again."
)
TARGETS = {
    "jetson-orin": Target(12, ORIN),
    "jetson-orin-nano": Target(
        12, f"{ORIN} If the build runs out of memory, make the bundle again with --workspace-mib 256."
    ),
    "jetson-thor": Target(13, "JetPack 7 (CUDA 13; 7.2.0 has TensorRT 10.16, 7.2.2 and later 11.4)."),
    "datacenter": Target(13, "TensorRT 10.3 to 11.", True),
}

README = """# {model} for {target}

For {notes}

On the machine that made this folder, then on the device:

1. `scp -r {folder} DEVICE:`
2. `ssh DEVICE`, and there `cd {folder}`
3. `python3 -m venv --system-site-packages venv && venv/bin/pip install numpy pillow click tqdm \
"cuda-bindings=={cuda}.*"`
   (or `pycuda` instead of the last; the first part needs `python3-venv`)
4. `./build.sh`  makes {stem}.engine and {stem}.engine.json and compares the engine with the model
{fifth}

An engine that gives other masks than the model is not kept. `./build.sh --check` compares again later. The scripts run
`venv/bin/python` where there is one, else `python3`; `PYTHON=... ./build.sh` another.
{words}
{serving}"""
INFER_IT = "5. `./infer.sh PHOTO --labels labels.npz`"
SERVE_IT = "5. `./serve.sh tensorrt`  in the Triton Inference Server's container; or `./serve.sh onnx`, without step 4"
SERVING = """
`./infer.sh PHOTO --labels labels.npz` runs the engine on one photo, without a server.

`serve.sh` listens at 127.0.0.1 (HTTP 8000, gRPC 8001) and asks nobody who they are; `HOST=0.0.0.0 ./serve.sh tensorrt`
lets the network in. More options go to tritonserver. """
SERVED_PHOTOS = """Both variants have the same models:

- `zeroseg`: `photo` (bytes of a file) uint8, `label_embeddings` (N, D) float32, optionally `threshold` (1,) float32 ->
  `label_map` (H, W) int16, -1 for background; `confidence` (H, W), `segment_labels` (K,), `scores` (N,)
- `zeroseg_network`, its middle: `image` (b, 3, h, w) -> `segment_maps`, `segment_embeddings`, `image_embedding`; images
  of one size share its runs, whoever sent them and whatever the labels are
"""
SERVED_NETWORK = """This network has no segments: the server runs it alone
(`zeroseg_network`); windows are cut and joined by who asks.
"""
# the bundle's own code comes first, whatever the folder it is started from holds
START = """#!/bin/sh
# {what}
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "$PYTHON" ]; then
    PYTHON=python3
    if [ -x "$here/venv/bin/python" ]; then PYTHON="$here/venv/bin/python"; fi
fi
exec "$PYTHON" -c 'import sys; sys.path.insert(0, sys.argv.pop(1)); {code}' \\
    "$here/python" {arguments} "$@"
"""
SCRIPTS = {
    "build.sh": START.format(
        what="Build the engine on this device; needs its TensorRT.",
        arguments='"$here"',
        code='from zeroseg.export.trt.device import main; main(prog_name="build.sh")',
    ),
    "infer.sh": START.format(
        what="zeroseg-infer with this bundle's engine.",
        arguments='--model "$here/STEM.engine"',
        code="from zeroseg.cli import infer; infer()",
    ),
}


def make_bundle(
    model: Path | str,
    out: Path,
    target_name: str,
    labels: str | None,
    options: BuildOptions,
    export: dict,
    half_weights: bool,
    report: Callable[[str], None] | None = None,
) -> Path:
    """Export model (a .pt or an open_clip model's name through the gate, an .onnx as it is) and write the bundle to the
    new folder out.
    """
    stem = default_output(model, ".onnx").stem
    target = TARGETS[target_name]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ZerosegError(f"--out: {out} exists already; a bundle needs a new folder")
    if not out.parent.is_dir():
        raise ZerosegError(f"--out: {out.parent}: no such folder")
    if options.timing_cache is not None:
        raise ZerosegError(
            "--timing-cache: a bundle is built on the device, with the device's own timings; leave it out"
        )
    with tempfile.TemporaryDirectory(prefix=".zeroseg-bundle-", dir=out.parent) as parent:
        folder = Path(parent) / out.name
        (folder / "check").mkdir(parents=True)
        onnx = folder / f"{stem}.onnx"
        steps = Steps.of(report)
        reference = _network(model, onnx, export, half_weights, steps)
        artifact = read_artifact(onnx)
        _labels(labels, artifact.sidecar, folder / "labels.npz", model)
        photos = _photos(export, folder / "check")
        pictures = [folder / "check" / name for name in photos]
        from zeroseg.photos.decode import load_image

        cases = gate_cases(reference, artifact.sidecar, [load_image(path) for path in pictures], steps)
        record(reference, cases, folder / EXPECTED)
        copy_code(folder / "python" / "zeroseg")
        if target.served:
            write_serving(folder, onnx, artifact.sidecar, options)
        for name, text in SCRIPTS.items():
            (folder / name).write_text(text.replace("STEM", stem), encoding="utf-8", newline="\n")
            (folder / name).chmod(0o755)
        words = OTHER_WORDS if artifact.sidecar.dense else _words(folder, onnx)
        (folder / "README.md").write_text(
            README.format(
                model=artifact.sidecar.name,
                target=target_name,
                notes=target.notes,
                folder=out.name,
                cuda=target.cuda,
                stem=stem,
                words=words,
                fifth=SERVE_IT if target.served else INFER_IT,
                serving=_serving(target, artifact.sidecar),
            ).rstrip()
            + "\n",
            encoding="utf-8",
        )
        _describe(folder, onnx.name, target_name, photos, options, [PLAN] if target.served else [])
        extra = extra_mb(folder, onnx)
        if extra > LIMIT_MB:
            raise ZerosegError(
                f"{out}: not written, it would have {extra:.1f} MB in addition to its model, {LIMIT_MB} are "
                "allowed; give fewer --labels or smaller --photo"
            )
        if out.is_dir():
            out.rmdir()  # it is empty
        folder.replace(out)
    steps(
        f"wrote {out} ({extra:.1f} MB in addition to the model's {onnx_mb(out, stem):.1f}); its "
        "README.md has five commands"
    )
    return out


def extra_mb(folder: Path, onnx: Path) -> float:
    """The size of the folder in addition to its model, in MB."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return (sum(path.stat().st_size for path in files) - onnx.stat().st_size) / 1e6


def onnx_mb(folder: Path, stem: str) -> float:
    return (folder / f"{stem}.onnx").stat().st_size / 1e6


def _network(model: Path | str, onnx: Path, export: dict, half_weights: bool, steps: Steps) -> Runner:
    """Put the network there; what it is held against: the model in PyTorch, or the ONNX file on the CPU."""
    if Path(model).suffix != ".onnx":
        return prepare(model, onnx, ExportOptions(half_weights=half_weights, **export), steps).reference.runner
    read_artifact(model, "onnxruntime")
    shutil.copyfile(model, onnx)
    shutil.copyfile(model.with_suffix(".json"), onnx.with_suffix(".json"))
    return open_runner(read_artifact(model))


def _labels(labels: str | None, sidecar, path: Path, model: Path | str) -> None:
    """The label pack: given, or made of words here, so that the device needs no text encoder."""
    from zeroseg.words import LabelPack, embed_labels

    if labels is not None and labels.endswith(".npz"):
        pack = LabelPack.load(labels)
    else:
        names = [word.strip() for word in (labels or LABELS).split(",") if word.strip()]
        if sidecar.dense is not None:
            named = is_dense_name(model)
            pack = model_pack(names, model if named else f"{sidecar.dense.text}@templates={sidecar.dense.templates}")
        else:
            pack = embed_labels(names)
    pack.require(sidecar.embedding_space, sidecar.embedding_dim)
    pack.save(path)


def _photos(export: dict, folder: Path) -> list[str]:
    """Copies of the photos to compare on; the ones that come with zeroseg if none were given."""
    given = export["photos"][:CHECK_PHOTOS]
    names = [f"photo-{index}{path.suffix.lower()}" for index, path in enumerate(given)]
    for name, path in zip(names, given, strict=True):
        shutil.copyfile(path, folder / name)
    if export["gate_photos"] is None and given:
        return names
    from PIL import Image

    for photo in photos_of(export["gate_photos"])[: CHECK_PHOTOS - len(given)]:
        names.append(f"photo-{len(names)}.jpg")
        Image.fromarray(photo).save(folder / names[-1], quality=90)
    return names


def _words(folder: Path, onnx: Path) -> str:
    """The table that turns any word into a vector, where there is room for it."""
    table = Path(zeroseg.__file__).parent / "bundled" / "words.npz"
    if table.is_file() and extra_mb(folder, onnx) + table.stat().st_size / 1e6 < LIMIT_MB - 0.1:
        (folder / "python" / "zeroseg" / "bundled").mkdir(exist_ok=True)
        shutil.copyfile(table, folder / "python" / "zeroseg" / "bundled" / table.name)
        return 'Instead of labels.npz you can give any words: `--labels "cat,sofa"`.\n'
    return OTHER_WORDS


def _serving(target: Target, sidecar: Sidecar) -> str:
    if not target.served:
        return ""
    return SERVING + (SERVED_NETWORK if sidecar.dense else SERVED_PHOTOS)


def _describe(folder: Path, onnx: str, target: str, photos: list[str], options: BuildOptions, served_as: list[str]):
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = {name: value for name, value in asdict(options).items() if name != "timing_cache"}
    document = {
        "format": 1,
        "target": target,
        "zeroseg": zeroseg.__version__,
        "onnx": onnx,
        "photos": photos,
        "options": kept,
        "served_as": served_as,
        "files": files,
    }
    (folder / DESCRIPTION).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
