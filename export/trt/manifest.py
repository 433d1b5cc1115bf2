"""Make the manifest of a new engine: the network, the machine, the build, and the command that rebuilds it."""

import json
import shlex
from pathlib import Path

from zeroseg import __version__
from zeroseg.errors import ZerosegError
from zeroseg.export.trt.builder import BuildOptions, Plan
from zeroseg.files import sha256
from zeroseg.runtime.trt_engine import FORMAT, SUFFIX, Manifest
from zeroseg.runtime.trt_memory import Gpu


def make_manifest(onnx: Path, engine: Path, version: str, gpu: Gpu, options: BuildOptions, plan: Plan, rebuild: str):
    """The manifest of an engine file that is already there, built from onnx by TensorRT `version`."""
    sidecar = json.loads(onnx.with_suffix(".json").read_text(encoding="utf-8"))
    return Manifest(
        format=FORMAT,
        size_bytes=engine.stat().st_size,
        onnx_file=onnx.name,
        onnx_sha256=sha256(onnx),
        gpu=gpu.name,
        sm=gpu.sm,
        tensorrt=version,
        profile=plan.profile,
        precision=sidecar.get("precision") or precision_of(onnx.read_bytes()),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        zeroseg=__version__,
        rebuild=rebuild,
        plugins=options.plugins,
        capabilities=[f"{name[2:-1]}.{name[-1]}" for name in options.capabilities],
        build_seconds=plan.seconds,
        weights_bytes=plan.weights_bytes,
        activation_bytes=plan.activation_bytes,
    )


def precision_of(onnx: bytes) -> str:
    """What a network computes in, from its own nodes, where its description does not say: int8, fp16 or fp32."""
    try:
        import onnx as onnx_package
    except ImportError:
        return "unknown"
    graph = onnx_package.load_from_string(onnx).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    half = onnx_package.TensorProto.FLOAT16
    casts = (item.i for node in graph.node if node.op_type == "Cast" for item in node.attribute if item.name == "to")
    return "fp16" if half in casts else "fp32"


def rebuild_command(source: Path, out: Path, options: BuildOptions, what: str = "--trt") -> str:
    """The zeroseg-export command for these options; files by name, as manifests must not hold a machine's folders.

    what: the option that says what to make, with its value.
    """
    default = BuildOptions()
    words = ["zeroseg-export", *what.split(), source.name, "-o", out.name]
    for name in ("max_batch", "workspace_mib"):
        if getattr(options, name) != getattr(default, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    if options.plugins != default.plugins:
        words += ["--plugins", options.plugins]
    for name in ("version_compatible", "hardware_compatible"):
        words += [f"--{name.replace('_', '-')}"] * getattr(options, name)
    return shlex.join(words)


def check_suffix(out: Path, suffix: str = SUFFIX) -> None:
    if out.suffix != suffix:
        raise ZerosegError(f"--out: expected a name that ends in {suffix}, got {out.name}")
    if not out.parent.is_dir():
        raise ZerosegError(f"--out: {out.parent}: no such folder")
