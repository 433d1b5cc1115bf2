"""zeroseg doctor: what this machine can run, and why not the rest."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from zeroseg import __version__
from zeroseg.commands.command import Command

PACKAGES = {  # distribution -> what it is for
    "numpy": "base",
    "pillow": "base",
    "onnxruntime": "base",
    "tqdm": "base",
    "click": "base",
    "torch": "train, export, back end torch",
    "timm": "train, export",
    "open_clip_torch": "train, --text open_clip",
    "onnx": "export",
    "onnxscript": "export",
    "triton": "GPU kernels",
    "tensorrt": "TensorRT engines",
    "tensorrt-rtx-cu13-bindings": "engines of TensorRT for RTX",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13": "their libraries, back end onnxruntime-rtx",
    "openvino": "back end openvino",
    "supervision": "to_supervision()",
    "av": "videos, cameras, streams",
    "fastapi": "zeroseg-serve",
    "pyarrow": "zeroseg annotate",
    "ray": "zeroseg annotate --ray",
}
COMPILERS = {"c++": "native CPU kernels", "cmake": "native builds", "nvcc": "CUDA kernels"}


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
def doctor(as_json):
    """Show what this machine can run (versions, compilers, GPU, back ends, kernels), and why it cannot run the rest.

    \b
    Example:
      zeroseg doctor
    """
    report = examine()
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    width = max(len(name) for rows in report.values() for name in rows)
    for section, rows in report.items():
        click.echo(section)
        for name, value in rows.items():
            click.echo(f"  {name:<{width}} {value}")


def examine() -> dict[str, dict[str, str]]:
    """Section -> name -> finding; a finding that starts with "no" says why, and what would change it."""
    return {
        "machine": dict(_machine()),
        "packages": {name: _version(name, purpose) for name, purpose in PACKAGES.items()},
        "compilers": {name: _compiler(name, purpose) for name, purpose in COMPILERS.items()},
        "gpu": {"nvidia": _gpu()},
        "back ends": {
            "onnxruntime": _attempt(_onnxruntime),
            "torch": _attempt(_torch),
            "openvino": _attempt(_openvino),
            "tensorrt": _attempt(_tensorrt),
            "tensorrt-rtx": _attempt(_tensorrt_rtx),
            "onnxruntime-rtx": _attempt(_onnxruntime_rtx),
        },
        "kernels": dict(_kernels()),
        "model": {"bundled": _attempt(_bundled), "words": _attempt(_words)},
    }


def _machine() -> Iterator[tuple[str, str]]:
    from zeroseg.kernels._threads import available_threads

    yield "zeroseg", f"{__version__} at {Path(__file__).resolve().parents[1]}"
    yield "python", platform.python_version()
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "cpu threads", str(available_threads())
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield "memory", f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"


def _version(distribution: str, purpose: str) -> str:
    try:
        return f"{importlib.metadata.version(distribution)} ({purpose})"
    except importlib.metadata.PackageNotFoundError:
        return f"no: not installed ({purpose})"


def _compiler(name: str, purpose: str) -> str:
    path = shutil.which(name)
    if path is None:
        return f"no: not on the PATH ({purpose})"
    lines = _output([path, "--version"]).splitlines()
    line = next((line for line in lines if "release" in line), lines[0] if lines else "gave no version")
    return f"{line.strip()} ({purpose})"


def _gpu() -> str:
    path = shutil.which("nvidia-smi")
    if path is None:
        return "no: nvidia-smi is not on the PATH, so there is no NVIDIA driver here; everything runs on the CPU"
    found = _output([path, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]).strip()
    return found.replace("\n", "; ") or "no: nvidia-smi lists no GPU; everything runs on the CPU"


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no: {error}"


def _attempt(finding: Callable[[], str]) -> str:
    """A finding, or the reason why there is none. Doctor reports any failure instead of ending in it."""
    try:
        return finding()
    except Exception as error:
        return f"no: {error}"


def _onnxruntime() -> str:
    import onnxruntime

    return f"yes, providers {', '.join(onnxruntime.get_available_providers())}"


def _torch() -> str:
    try:
        import torch
    except ImportError:
        return "no: torch is not installed; pip install 'zeroseg[train]'"
    return (
        f"yes, cuda {torch.version.cuda} on {torch.cuda.get_device_name()}"
        if torch.cuda.is_available()
        else "yes, on the CPU (torch.cuda.is_available() is False)"
    )


def _openvino() -> str:
    try:
        import openvino
    except ImportError:
        return "no: openvino is not installed; pip install 'zeroseg[openvino]'"
    return f"yes, devices {', '.join(openvino.Core().available_devices)}"


def _tensorrt() -> str:
    from zeroseg.runtime.trt_library import load_tensorrt

    return f"yes, {load_tensorrt('back end tensorrt').__version__}"


def _tensorrt_rtx() -> str:
    from zeroseg.errors import UnavailableError
    from zeroseg.runtime.rtx_library import load_rtx
    from zeroseg.runtime.trt_memory import open_memory

    version = load_rtx("back end tensorrt-rtx").__version__
    try:
        memory = open_memory()
    except UnavailableError as error:
        return f"no: {version} builds engines here (zeroseg-export --rtx), but does not run them: {error}"
    gpu = memory.gpu()
    memory.close()
    return f"yes, {version}; the GPU is {gpu.name} ({gpu.sm})"


def _onnxruntime_rtx() -> str:
    from zeroseg.runtime.ort_rtx import rtx_devices

    return f"yes, {len(rtx_devices())} GPU"


def _kernels() -> Iterator[tuple[str, str]]:
    from zeroseg.kernels import _cuda, best_products, mask_decode, preprocess, tint

    for op in (mask_decode, preprocess, tint, best_products):
        reasons = {name: why_not() for name, why_not in op.IMPLEMENTATIONS.items()}
        chosen = next(name for name, reason in reasons.items() if reason is None)
        rest = "".join(f"; not {name}: {reason}" for name, reason in reasons.items() if reason)
        yield op.__name__.rsplit(".", 1)[-1], f"{chosen}{rest}"
    reason = _cuda.missing()
    yield "CUDA library", f"no: {reason}" if reason else "yes"


def _bundled() -> str:
    from zeroseg.artifact import read_artifact

    artifact = read_artifact()
    size_mib = artifact.path.stat().st_size / 2**20
    return f"{artifact.sidecar.name}, {size_mib:.1f} MiB, labels in {artifact.sidecar.embedding_space}"


def _words() -> str:
    from zeroseg import embed_labels

    return f"yes, {embed_labels(['cat'], text='auto').vectors.shape[1]} numbers a word"
