"""A bundle's model repositories for the Triton Inference Server: triton/onnx, which works at once, and triton/tensorrt.

Both have the same models (zeroseg/serving/repository.py), so it makes no difference to clients which one is served.
"""

import os
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.export.trt.builder import BuildOptions
from zeroseg.serving.repository import NETWORK, Batching, write_network, write_steps
from zeroseg.sidecar import Sidecar

MAX_BATCH = 8  # photos in a run, unless told
# what runs the network in each repository, as lines of config.pbtxt
RUNS = {
    "onnx": ['platform: "onnxruntime_onnx"', "instance_group [ { kind: KIND_AUTO, count: 2 } ]"],
    "tensorrt": [
        'platform: "tensorrt_plan"',
        "instance_group [ { kind: KIND_GPU, count: 1 } ]",
        "optimization { cuda { graphs: true } }",
    ],
}
PLAN = f"triton/tensorrt/{NETWORK}/1/model.plan"  # in the bundle, made on the device
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


def write_serving(folder: Path, onnx: Path, sidecar: Sidecar, options: BuildOptions) -> None:
    """Write serve.sh, triton/onnx with a link to the bundle's ONNX file, and triton/tensorrt, which build.sh completes.

    For a network without segments there is only zeroseg_network: the client cuts and joins the windows.
    """
    batching = Batching(max_batch=options.max_batch)
    for variant, runs in RUNS.items():
        repository = folder / "triton" / variant
        if sidecar.dense is None:
            write_steps(repository, sidecar, batching)
        write_network(repository, sidecar, batching, runs)
    script = folder / "serve.sh"
    script.write_text(SERVE, encoding="utf-8", newline="\n")
    script.chmod(0o755)
    (folder / PLAN).with_name("README").write_text("build.sh puts model.plan here.\n", encoding="utf-8")
    link = folder / "triton" / "onnx" / NETWORK / "1" / "model.onnx"
    try:
        link.symlink_to(os.path.relpath(onnx, link.parent))
    except OSError as error:
        raise ZerosegError(
            f"--bundle: {link.name} cannot be linked here ({error.strerror}); make the bundle on a "
            "file system that has symbolic links"
        ) from error
