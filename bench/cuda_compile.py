"""Compile the CUDA kernels for every GPU target and report registers, spills, shared memory and seconds.

No GPU is needed. A kernel is slow if it spills registers to memory, or uses so many that few blocks fit on a
multiprocessor. A capability that nvcc does not support is named and left out.

    python bench/cuda_compile.py --only 87,90
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
CMAKE = KERNELS / "CMakeLists.txt"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", metavar="N,N", help="Capabilities, such as 87,90.  [default: all of kernels/CMakeLists.txt]")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, metavar="N", help="Compilers at a time.")
@click.option("--output", type=click.Path(dir_okay=False), help="Write the JSON here too.")
def main(only, jobs, output):
    """Compile every CUDA kernel for every GPU: a table, then one JSON line.

    \b
    Example:
      python bench/cuda_compile.py --only 87,90
    """
    from zeroseg.commands.command import user_errors
    from zeroseg.commit import current_commit

    with user_errors():
        nvcc = find_nvcc()
        report = {
            "nvcc": version_of(nvcc),
            "commit": current_commit("kernels"),
            "command": "python bench/cuda_compile.py" + (f" --only {only}" if only else ""),
        }
        report["capabilities"] = compile_all(nvcc, wanted(nvcc, only), jobs)
    click.echo(f"{'sm':>5}{'kernels':>9}{'registers':>11}{'spilled':>9}{'shared B':>10}{'cubin KiB':>11}{'seconds':>9}")
    for name, row in report["capabilities"].items():
        kernels = row["kernels"].values()
        click.echo(
            f"{name:>5}{len(kernels):>9}{max(k['registers'] for k in kernels):>11}"
            f"{sum(k['spill_bytes'] for k in kernels):>9}{max(k['shared_bytes'] for k in kernels):>10}"
            f"{row['cubin_bytes'] / 1024:>11.0f}{row['seconds']:>9.1f}"
        )
    text = json.dumps(report)
    if output:
        Path(output).write_text(text + "\n", encoding="utf-8")
    click.echo(text)


def find_nvcc() -> str:
    """nvcc of the PATH or of CUDA's usual folder; UnavailableError without one."""
    from zeroseg.errors import UnavailableError

    places = [
        shutil.which("nvcc"),
        *(Path(folder) / "bin" / "nvcc" for folder in (os.environ.get("CUDA_HOME", ""), "/usr/local/cuda") if folder),
    ]
    for place in places:
        if place and Path(place).is_file():
            return str(place)
    raise UnavailableError("nvcc was not found; install the CUDA toolkit or set CUDA_HOME")


def version_of(nvcc: str) -> str:
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    return re.search(r"V([0-9.]+)", text)[1]


def capabilities() -> list[str]:
    """Those that kernels/CMakeLists.txt builds for."""
    block = re.search(r"set\(capabilities(.*?)\n  \)", CMAKE.read_text(encoding="utf-8"), re.DOTALL)[1]
    return re.findall(r"^\s+(\d+) ", block, re.MULTILINE)


def sources() -> list[Path]:
    """The .cu files of the library, as kernels/CMakeLists.txt lists them."""
    listed = re.search(r"set\(cuda_sources(.*?)\)", CMAKE.read_text(encoding="utf-8"), re.DOTALL)[1]
    return [KERNELS / name for name in listed.split()]


def wanted(nvcc: str, only: str | None) -> list[str]:
    """Capabilities to compile for; ZerosegError for one that is not a number, a note for one that nvcc lacks."""
    from zeroseg.errors import ZerosegError

    asked = [part.strip() for part in only.split(",")] if only else capabilities()
    if not all(part.isdecimal() for part in asked):
        raise ZerosegError(f"--only {only!r}: expected capabilities such as 87,90")
    known = re.findall(r"sm_(\d+)", subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True).stdout)
    for part in asked:
        if part not in known:
            click.echo(f"sm_{part}: nvcc {version_of(nvcc)} does not know it; left out", err=True)
    if not (both := [part for part in asked if part in known]):
        raise ZerosegError(f"nvcc {version_of(nvcc)} supports none of sm_{', sm_'.join(asked)}")
    return both


def compile_all(nvcc: str, names: list[str], jobs: int) -> dict[str, dict]:
    """Capability -> kernels, cubin_bytes, sha256 of the cubins together, seconds of the compilers together."""
    from tqdm import tqdm

    tasks = [(name, source) for name in names for source in sources()]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda task: compile_one(nvcc, *task, Path(folder)), tasks)
        done = list(tqdm(results, total=len(tasks), unit="file", desc="compiling", leave=False, disable=None))
    rows = {}
    for name in names:
        mine = [result for (capability, _), result in zip(tasks, done, strict=True) if capability == name]
        cubin = b"".join(result["cubin"] for result in mine)
        rows[name] = {
            "seconds": round(sum(result["seconds"] for result in mine), 1),
            "cubin_bytes": len(cubin),
            "sha256": hashlib.sha256(cubin).hexdigest(),
            "kernels": {kernel: numbers for result in mine for kernel, numbers in result["kernels"].items()},
        }
    return rows


def compile_one(nvcc: str, capability: str, source: Path, folder: Path) -> dict:
    """One source for one GPU, with the flags that CMake gives a release; ZerosegError with nvcc's own words."""
    from zeroseg.errors import ZerosegError

    cubin = folder / f"{source.stem}_{capability}.cubin"
    began = time.perf_counter()
    done = subprocess.run(
        [
            nvcc,
            "-cubin",
            f"-arch=sm_{capability}",
            "-std=c++17",
            "-O3",
            "-Xptxas",
            "-v",
            "-I",
            KERNELS / "csrc" / "cuda",
            "-o",
            cubin,
            source,
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line] or ["no reason given"]
        raise ZerosegError(f"{source.name} for sm_{capability}: {lines[0]}")
    return {"seconds": time.perf_counter() - began, "cubin": cubin.read_bytes(), "kernels": read_ptxas(done.stderr)}


def read_ptxas(text: str) -> dict[str, dict[str, int]]:
    """Kernel -> registers, spill_bytes (stored and loaded), stack_bytes, shared_bytes (static), from ptxas -v."""
    kernels, name = {}, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '([^']+)'", line):
            name = readable(found[1])
            kernels[name] = {"registers": 0, "spill_bytes": 0, "stack_bytes": 0, "shared_bytes": 0}
        elif name and (
            found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        ):
            kernels[name] |= {"stack_bytes": int(found[1]), "spill_bytes": int(found[2]) + int(found[3])}
        elif name and (found := re.search(r"Used (\d+) registers", line)):
            kernels[name]["registers"] = int(found[1])
            if shared := re.search(r"(\d+) bytes smem", line):
                kernels[name]["shared_bytes"] = int(shared[1])
    return kernels


def readable(symbol: str) -> str:
    """A mangled kernel's name without its arguments, where there is a tool that reads them."""
    tool = shutil.which("c++filt")
    if tool is None:
        return symbol
    text = subprocess.run([tool, symbol], capture_output=True, text=True).stdout.strip()
    return re.sub(r"\(anonymous namespace\)::|^void |\(.*\)$", "", text.replace("(anonymous namespace)::", ""))


if __name__ == "__main__":
    main()
