"""Run all checks that need a GPU, in stages that fit into short sessions on a GPU.

Every stage is a separate command. Its result, figures and last lines go to OUT/STAGE.json. A stage with a result is not
run again, so the next call continues where this one ran out of time. A stage that cannot run says why, and is not
reported as passed. Build the CUDA library before the session: for one GPU, it takes a minute to compile.

    python bench/gpu_session.py --out gpu --minutes 9
    python bench/gpu_session.py --out gpu --list
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

try:
    import zeroseg
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import zeroseg

ROOT = Path(__file__).resolve().parent.parent
PIECE_BYTES = 15 * 2**20  # of a stage's files, so that each piece may be sent alone
KEPT_LINES = 60


class Machine(NamedTuple):
    """What stages ask for: the GPU's name and capability ("90"), or why there is none; programs that are installed."""

    gpu: str | None
    capability: str
    reason: str
    programs: frozenset[str]


class Stage(NamedTuple):
    """command(machine, out) -> what to run; needs: programs; minutes: that it takes at most."""

    name: str
    minutes: float
    needs: tuple[str, ...]
    command: Callable[[Machine, Path], list[str]]


def _python(*arguments) -> list[str]:
    return [sys.executable, *map(str, arguments)]


STAGES = (
    Stage(
        "build",
        4,
        ("nvcc", "cmake"),
        lambda machine, out: [
            "bash",
            "-c",
            f"cmake -S . -B build/gpu_session -DZEROSEG_CUDA=ON -DZEROSEG_CUDA_ONLY={machine.capability} && "
            "cmake --build build/gpu_session --target zeroseg_cuda --parallel",
        ],
    ),
    Stage(
        "tests",
        6,
        (),
        lambda machine, out: _python(
            "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/kernels", "-m", "not slow"
        ),
    ),
    Stage(
        "sanitizer",
        6,
        ("compute-sanitizer",),
        lambda machine, out: [
            "compute-sanitizer",
            "--tool",
            "memcheck",
            "--error-exitcode",
            "9",
            *_python(
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "tests/kernels/test_cuda.py",
                "-k",
                "gpu and not full_hd",
            ),
        ],
    ),
    Stage(
        "kernels",
        6,
        (),
        lambda machine, out: _python(
            "bench/kernels.py", "--device", "cuda", "--full", "--output", out / "kernels-gpu.json"
        ),
    ),
    Stage("aot", 4, (), lambda machine, out: _python("bench/gpu_session.py", "--load-aot", out)),
    Stage(
        "latency",
        4,
        (),
        lambda machine, out: _python(
            "bench/latency.py",
            "--checkpoint",
            "models/tiny/model.pt",
            "--backend",
            "torch-cuda",
            "--backend",
            "torch-cuda-graphs",
            "--rounds",
            "40",
        ),
    ),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="gpu-session",
    metavar="DIR",
    help="Folder for the results; created if needed.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=9.0,
    metavar="N",
    help="Time limit; a stage that may take longer than the rest is not started.",
)
@click.option(
    "--only",
    metavar="NAMES",
    help=f"Only these stages, separated by commas: {', '.join(stage.name for stage in STAGES)}.",
)
@click.option("--again", is_flag=True, help="Also repeat stages that have results.")
@click.option("--list", "listing", is_flag=True, help="Show the stages and what prevents them from running.")
@click.option("--load-aot", type=click.Path(file_okay=False, path_type=Path), hidden=True)
def main(out, minutes, only, again, listing, load_aot):
    """Run the stages that need a GPU; exit with 1 if one failed.

    \b
    Example:
      python bench/gpu_session.py --out gpu --minutes 9
    """
    from zeroseg.commands.command import user_errors

    with user_errors():
        machine = this_machine()
        if load_aot:
            click.echo(load_kernels(machine, load_aot))
            return
        stages = chosen(only)
        if listing:
            for stage in stages:
                click.echo(f"{stage.name:<10} up to {stage.minutes:g} min  {obstacle(stage, machine) or 'can run'}")
            return
        out.mkdir(parents=True, exist_ok=True)
        reports = run(stages, machine, out.resolve(), 60 * minutes, again)
    raise SystemExit(1 if any(report["result"] == "failed" for report in reports) else 0)


def chosen(only: str | None) -> list[Stage]:
    """The stages of a comma list, in their own order; ZerosegError for another name."""
    from zeroseg.errors import ZerosegError

    names = [name.strip() for name in only.split(",")] if only else [stage.name for stage in STAGES]
    if unknown := set(names) - {stage.name for stage in STAGES}:
        raise ZerosegError(f"--only: expected {', '.join(stage.name for stage in STAGES)}, got {', '.join(unknown)}")
    return [stage for stage in STAGES if stage.name in names]


def this_machine() -> Machine:
    """The first GPU as torch sees it."""
    programs = frozenset(name for name in ("nvcc", "cmake", "compute-sanitizer") if shutil.which(name))
    try:
        import torch
    except ImportError:
        return Machine(None, "", "torch is not installed", programs)
    if not torch.cuda.is_available():
        return Machine(None, "", "torch sees no GPU (torch.cuda.is_available() is False)", programs)
    major, minor = torch.cuda.get_device_capability()
    return Machine(torch.cuda.get_device_name(), f"{major}{minor}", "", programs)


def obstacle(stage: Stage, machine: Machine) -> str | None:
    """Why a stage cannot run here, or None."""
    if machine.gpu is None:
        return machine.reason
    missing = [name for name in stage.needs if name not in machine.programs]
    return f"{' and '.join(missing)} not installed" if missing else None


def run(stages: list[Stage], machine: Machine, out: Path, seconds: float, again: bool) -> list[dict]:
    """Run what can be run in the time, say a line about each, and return the reports of all that have one."""
    end_s, reports = time.monotonic() + seconds, []
    for stage in stages:
        path = out / f"{stage.name}.json"
        if path.is_file() and not again:
            report = json.loads(path.read_text(encoding="utf-8"))
            if report["result"] != "not run":
                click.echo(f"{stage.name:<10} {report['result']} before")
                reports.append(report)
                continue
        if reason := obstacle(stage, machine):
            report = {"stage": stage.name, "result": "not run", "reason": reason}
        elif end_s - time.monotonic() < 60 * stage.minutes:
            click.echo(f"{stage.name:<10} postponed to the next call: it may take {stage.minutes:g} minutes")
            continue
        else:
            report = run_one(stage, machine, out)
        report |= {
            "gpu": machine.gpu,
            "capability": machine.capability,
            "machine": platform.machine(),
            "zeroseg": zeroseg.__version__,
        }
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        reports.append(report)
        detail = report.get("reason") or report.get("summary", "")
        click.echo(f"{stage.name:<10} {report['result']}  {report.get('seconds', 0):.0f} s  {detail}")
    for path in sorted(out.iterdir()):
        split(path)
    return reports


def run_one(stage: Stage, machine: Machine, out: Path) -> dict:
    """One stage as a process: passed if it ended with 0, else failed, with its last lines."""
    from zeroseg.commit import current_commit

    command = stage.command(machine, out)
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60 * stage.minutes,
            env={key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"},
        )
        code, text = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        code, text = (
            None,
            "".join(
                part.decode(errors="replace") if isinstance(part, bytes) else part or ""
                for part in (error.stdout, error.stderr)
            ),
        )
    except OSError as error:
        code, text = None, str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    report = {
        "stage": stage.name,
        "result": "passed" if code == 0 else "failed",
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "summary": summary(lines),
        "commit": current_commit(),
        "command": " ".join(command).replace(sys.executable, "python"),
        "last_lines": lines[-KEPT_LINES:],
    }
    if code is None:
        report["reason"] = f"took longer than {stage.minutes:g} minutes, or could not be started"
    if lines and lines[-1].startswith(("{", "[")):  # a benchmark's own JSON line
        report["figures"], report["last_lines"] = json.loads(lines[-1]), lines[-KEPT_LINES:-1]
    return report


def summary(lines: list[str]) -> str:
    """The line that says how it ended: pytest's count, or the last one that is no JSON."""
    counted = [line for line in lines if re.search(r"\d+ (passed|failed)", line)]
    plain = [line for line in lines if not line.startswith(("{", "["))]
    return (counted or plain or [""])[-1].strip("= ")[:200]


def split(path: Path) -> None:
    """Cut a file that is larger than PIECE_BYTES into NAME.000, NAME.001, ...; cat NAME.* puts it together."""
    if path.stat().st_size <= PIECE_BYTES or re.search(r"\.\d{3}$", path.name):
        return
    with open(path, "rb") as file:
        for number in range(1000):
            if not (piece := file.read(PIECE_BYTES)):
                break
            path.with_name(f"{path.name}.{number:03}").write_bytes(piece)
    path.unlink()


def load_kernels(machine: Machine, out: Path) -> str:
    """Compile our Triton kernels ahead of time for this GPU and have the driver load each; what it says of them."""
    import ctypes

    from zeroseg.errors import UnavailableError, ZerosegError

    if machine.gpu is None:
        raise UnavailableError(machine.reason)
    import torch

    folder = out / "aot"
    subprocess.run(
        _python("-m", "zeroseg.kernels.aot", "--target", f"sm_{machine.capability}", "-o", folder),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    torch.zeros(1, device="cuda")  # makes the context that modules are loaded into
    driver = ctypes.CDLL("libcuda.so.1")
    files = sorted(folder.rglob("*.cubin"))
    for file in files:
        module = ctypes.c_void_p()
        if status := driver.cuModuleLoadData(ctypes.byref(module), file.read_bytes()):
            raise ZerosegError(f"{file.name}: the driver refuses it (CUresult {status})")
    return f"{len(files)} cubins loaded on {machine.gpu}"


if __name__ == "__main__":
    main()
