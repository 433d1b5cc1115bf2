"""Build an engine of TensorRT for RTX from an ONNX file, ahead of time, on a machine without a GPU.

The engine has intermediate code for the given compute capabilities; it is finished on the GPU that runs it. So it
cannot be compared with the model here. The ONNX file has passed the export gate; beyond that, this shows only that it
builds.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError
from zeroseg.export.trt.builder import BuildOptions, build_plan
from zeroseg.export.trt.layers import write_layers
from zeroseg.export.trt.manifest import make_manifest, rebuild_command
from zeroseg.export.trt.plugins import with_plugins
from zeroseg.runtime.rtx_library import cache_folder, load_rtx, require_by_name
from zeroseg.runtime.trt_engine import EngineFile, manifest_path, read_engine, write_manifest
from zeroseg.runtime.trt_memory import Gpu

PORTABLE = "portable"
CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")  # of trt.ComputeCapability
HALF_ONLY = "sm75"  # Turing: matrix products in float16 alone
PRODUCTS = ("MatMul", "Gemm", "Einsum")


def read_capabilities(text: str) -> tuple[str, ...]:
    """("sm86", "sm89") of "sm86,sm89"; () of "portable". ZerosegError for what the library builds nothing for."""
    if text == PORTABLE:
        return ()
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    for name in names:
        if name not in CAPABILITIES:
            raise ZerosegError(
                f"--rtx: expected {', '.join(CAPABILITIES)}, several separated by commas, or {PORTABLE}, got "
                f"{name!r}; for Jetson, Hopper and others use --trt on the machine itself, or --bundle"
            )
    return names


def refuse_options(options: BuildOptions, precision: str) -> None:
    """ZerosegError in one line for what this library does not do, before anything is exported."""
    if options.timing_cache is not None:
        raise ZerosegError("--timing-cache: TensorRT for RTX measures no timings while it builds; leave it out")
    if options.version_compatible or options.hardware_compatible:
        name = "version" if options.version_compatible else "hardware"
        raise ZerosegError(
            f"--{name}-compatible: an engine of TensorRT for RTX belongs to one version and to the GPUs "
            "that --rtx names; leave it out"
        )
    if options.plugins == "aot":
        raise ZerosegError("--plugins aot: TensorRT for RTX has no Python plugins; leave it out, or use --plugins v3")
    if precision == "int8":
        raise ZerosegError("--precision int8: TensorRT for RTX has no int8 activations; give fp32 or fp16")
    if precision == "fp32" and HALF_ONLY in options.capabilities:
        raise ZerosegError(_half_only("the graph would be float32"))


def refuse_float_products(onnx: bytes, source: str, capabilities: tuple[str, ...]) -> None:
    """ZerosegError when an engine for Turing is asked for and the graph multiplies float32 matrices.

    Without the onnx package the library says so itself, with a less useful message.
    """
    if HALF_ONLY not in capabilities:
        return
    try:
        import onnx as onnx_package

        from zeroseg.export.half_graph import tensor_types
    except ImportError:
        return
    model = onnx_package.load_from_string(onnx)
    types = tensor_types(model)
    floats = [
        node.name
        for node in model.graph.node
        if node.op_type in PRODUCTS and types.get(node.output[0]) == onnx_package.TensorProto.FLOAT
    ]
    if floats:
        raise ZerosegError(_half_only(f"{source} has {len(floats)} in float32, the first is node {floats[0]!r}"))


def _half_only(why: str) -> str:
    return (
        f"--rtx {HALF_ONLY}: on Turing (T4, RTX 20) TensorRT for RTX multiplies matrices in float16 only, and {why}; "
        f"export a model.pt with --precision fp16, or leave {HALF_ONLY} out"
    )


def build_rtx(
    onnx: Path,
    out: Path,
    options: BuildOptions,
    *,
    layers: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
) -> EngineFile:
    """Build out (.rtx, and .rtx.json beside it) from onnx; layers, if any, gets the table of the engine's layers.

    UnavailableError when the library is not installed; ZerosegError when it cannot build the graph. What was at `out`
    before stays as it was then.
    """
    rtx = load_rtx("building an engine")
    artifact = read_artifact(onnx, "onnxruntime")
    content = onnx.read_bytes()
    refuse_float_products(content, onnx.name, options.capabilities)
    if options.plugins == "v3":
        require_by_name(cache_folder() / rtx.__version__)
    given = with_plugins(rtx, content, options.plugins, "", onnx, out)
    plan = build_plan(
        rtx, given, onnx.name, artifact.sidecar, options, report, show_progress, keep_layers=layers is not None
    )
    sidecar = json.loads(onnx.with_suffix(".json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix=".zeroseg-engine-", dir=out.parent) as folder:
        partial = Path(folder) / out.name
        with open(partial, "wb") as file:
            file.write(plan.content)
        rebuild = rebuild_command(onnx, out, options, f"--rtx {','.join(options.capabilities) or PORTABLE}")
        manifest = make_manifest(onnx, partial, rtx.__version__, Gpu("", ""), options, plan, rebuild)
        write_manifest(partial, sidecar, manifest)
        if layers is not None:
            write_layers(plan.layers, layers)
        for source, target in ((partial, out), (manifest_path(partial), manifest_path(out))):
            os.replace(source, target)
    return read_engine(out)
