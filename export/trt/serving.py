"""A bundle's model repositories for the Triton Inference Server: triton/onnx, which works at once, and triton/tensorrt.

Both have the same models (zeroseg/serving/repository.py), so clients need not know which of them is served.
"""

import os
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.export.trt.builder import BuildOptions
from zeroseg.serving.repository import MODEL, Batching, native_config, sidecar_document, write_repository
from zeroseg.sidecar import Sidecar

MAX_BATCH = 8  # photos in a run, unless told
VARIANTS = ("onnx", "tensorrt")
PLAN = f"triton/tensorrt/{MODEL}/1/model.plan"  # in the bundle, made on the device
SERVE = """#!/bin/sh
# Serve this bundle with the Triton Inference Server: ./serve.sh onnx, or ./serve.sh tensorrt after ./build.sh.
# It needs tritonserver with its Python back end and that of the variant; more options go to tritonserver.
here=$(cd "$(dirname "$0")" && pwd)
variant=${1:-none}
host=${HOST:-127.0.0.1}
case "$variant" in
    onnx | tensorrt) shift ;;
    *) echo "Error: expected onnx or tensorrt, got $variant; for example ./serve.sh onnx" >&2; exit 2 ;;
esac
if [ "$variant" = tensorrt ] && [ ! -f "$here/PLAN" ]; then
    echo "Error: PLAN is not there yet; ./build.sh makes it" >&2
    exit 1
fi
if ! command -v tritonserver > /dev/null; then
    echo "Error: tritonserver is not on this machine; run this inside NVIDIA's container of that name" >&2
    exit 1
fi
PYTHONPATH="$here/python${PYTHONPATH:+:$PYTHONPATH}" exec tritonserver --model-repository "$here/triton/$variant" \\
    --disable-auto-complete-config --http-address "$host" --grpc-address "$host" --metrics-address "$host" "$@"
""".replace("PLAN", PLAN)


def write_repositories(folder: Path, onnx: Path, sidecar: Sidecar, options: BuildOptions) -> None:
    """folder/triton/onnx, with a link to the bundle's ONNX file, and folder/triton/tensorrt, which build.sh completes.

    A network without segments is zeroseg_model alone: its windows are cut and joined by who asks.
    """
    batching = Batching(max_batch=options.max_batch)
    for variant in VARIANTS:
        repository = folder / "triton" / variant
        if sidecar.dense is None:
            write_repository(
                repository, sidecar, batching, {"served_model": MODEL, "max_labels": str(options.max_labels)}
            )
        version = repository / MODEL / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(model_config(variant, sidecar, options), encoding="utf-8")
    (folder / PLAN).with_name("README").write_text("build.sh puts model.plan here.\n", encoding="utf-8")
    link = folder / "triton" / "onnx" / MODEL / "1" / "model.onnx"
    try:
        link.symlink_to(os.path.relpath(onnx, link.parent))
    except OSError as error:
        raise ZerosegError(
            f"--bundle: {link.name} cannot be linked here ({error.strerror}); make the bundle on a "
            "file system that has symbolic links"
        ) from error


def model_config(variant: str, sidecar: Sidecar, options: BuildOptions) -> str:
    """config.pbtxt of the network itself, as ONNX file or TensorRT engine."""
    about = {
        "embedding_space": sidecar.embedding_space,
        "threshold": f"{sidecar.threshold:g}",
        "max_photos": str(options.max_batch),
        "max_labels": str(options.max_labels),
    }
    document = {**sidecar_document(sidecar), "dense": sidecar.dense}
    if variant == "onnx":
        return native_config(document, "onnxruntime_onnx", "kind: KIND_AUTO, count: 2", about=about)
    return native_config(
        document, "tensorrt_plan", "kind: KIND_GPU, count: 1", "optimization { cuda { graphs: true } }", about=about
    )
