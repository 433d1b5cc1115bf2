"""What the numbers of a benchmark depend on: processor and its instructions, GPU, versions."""

import importlib.metadata
import os
import platform
import subprocess

# of /proc/cpuinfo: what kernels of float32, float16 and int8 are chosen by
INSTRUCTIONS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_fp16",
    "avx_vnni",
    "avx512_vnni",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "sve",
    "sve2",
)


def machine(cpuinfo: str = "/proc/cpuinfo") -> dict:
    """cpu, cpus, gpu, versions, and instructions: those of INSTRUCTIONS that it has, none where no cpuinfo tells."""
    cpu = platform.processor() or platform.machine()
    try:
        with open(cpuinfo) as info:
            known = dict(line.split(":", 1) for line in info if ":" in line)  # the last core's
    except OSError:
        known = {}
    known = {name.strip(): value.strip() for name, value in known.items()}
    cpu, flags = known.get("model name", cpu), (known.get("flags") or known.get("Features") or "").split()
    versions = {}
    for name in ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "gpu": gpu(),
        "versions": versions,
    }


def gpu() -> str:
    """The GPUs' names as their driver gives them."""
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return "no GPU"
    return found.stdout.strip().replace("\n", ", ") if found.returncode == 0 and found.stdout.strip() else "no GPU"
