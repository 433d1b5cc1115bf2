"""Compile the Triton kernels ahead of time, for devices that are not here: cubin, PTX, a manifest and a C header.

A program in C or C++ loads a cubin with cuModuleLoadData and launches it with cuLaunchKernel; it needs neither Python
nor Triton. No GPU is needed to compile. Run as `python -m zeroseg.kernels.aot`.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import click

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.kernels.aot_header import c_header

ALIGNMENT = 16  # bytes; what the compiler may assume of every pointer
FORMAT = 1  # of manifest.json


@dataclass(frozen=True)
class Target:
    """A compute capability (87 is 8.7), the devices that have it, and a block's largest shared memory in KiB."""

    capability: int
    devices: tuple[str, ...]
    shared_kib: int


TARGETS = {
    f"sm_{target.capability}": target
    for target in (
        Target(75, ("t4", "rtx20"), 64),
        Target(80, ("a100", "a30"), 163),
        Target(86, ("a10", "a40", "rtx30"), 99),
        Target(87, ("orin",), 163),
        Target(89, ("l4", "l40s", "rtx40"), 99),
        Target(90, ("h100", "h200", "gh200"), 227),
        Target(100, ("b200", "gb200"), 227),
        Target(110, ("thor",), 227),
        Target(120, ("rtx50", "rtx-pro-6000"), 99),
    )
}


def find_target(name: str) -> Target:
    """The target of a device's name or of "sm_87"; ZerosegError lists them all."""
    wanted = name.strip().lower()
    for sm, target in TARGETS.items():
        if wanted == sm or wanted in target.devices:
            return target
    known = ", ".join(f"{sm} ({' '.join(target.devices)})" for sm, target in TARGETS.items())
    raise ZerosegError(f"--target {name!r} is not known; choose from {known}")


def compile_entry(entry, target: Target, folder: Path, ptx_version: int | None = None) -> dict:
    """Compile one kernel for one target into NAME.cubin and NAME.ptx; returns its manifest entry.

    ptx_version  84 for PTX ISA 8.4; None for the newest that Triton's assembler knows.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = entry.kernel.arg_names
    pointers = [name for name, kind in entry.types.items() if kind.startswith("*")]
    source = ASTSource(
        entry.kernel,
        signature={name: entry.types.get(name, "constexpr") for name in names},
        constexprs=entry.fixed,
        attrs={(names.index(name),): [["tt.divisibility", ALIGNMENT]] for name in pointers},
    )
    options = {
        "num_warps": entry.num_warps,
        "num_stages": entry.num_stages,
        "enable_fp_fusion": True,
        "ptx_version": ptx_version,
    }
    try:
        compiled = triton.compile(source, target=GPUTarget("cuda", target.capability, 32), options=options)
    except Exception as error:  # the compiler's own classes differ between versions
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ZerosegError(
            f"{entry.name}: Triton {triton.__version__} cannot compile for sm_{target.capability}: {reason}"
        ) from error
    if compiled.metadata.shared > target.shared_kib * 1024:
        raise ZerosegError(
            f"{entry.name}: needs {compiled.metadata.shared} bytes of shared memory, sm_"
            f"{target.capability} has {target.shared_kib} KiB"
        )
    ptx = compiled.asm["ptx"]
    hidden = ptx_parameters(ptx, compiled.metadata.name) - len(entry.types)
    files = {"cubin": compiled.asm["cubin"], "ptx": ptx.encode()}
    for kind, content in files.items():
        (folder / f"{entry.name}.{kind}").write_bytes(content)
    return {
        "name": entry.name,
        "symbol": compiled.metadata.name,
        "files": {
            kind: {"name": f"{entry.name}.{kind}", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for kind, content in files.items()
        },
        "arguments": [{"name": name, "type": kind} for name, kind in entry.types.items()],
        "null_pointers_after": hidden,  # of Triton's own: scratch memory that these kernels do not use
        "options": entry.fixed,
        "grid": entry.grid,
        "block_threads": 32 * compiled.metadata.num_warps,
        "num_warps": compiled.metadata.num_warps,
        "shared_bytes": compiled.metadata.shared,
    }


def ptx_parameters(ptx: str, symbol: str) -> int:
    """How many parameters a kernel of a PTX text takes."""
    head = re.search(rf"\.entry\s+{re.escape(symbol)}\s*\((.*?)\)\s*\n", ptx, re.DOTALL)
    if head is None:
        raise ZerosegError(f"no entry {symbol} in the PTX that Triton wrote")
    return len(re.findall(r"\.param\b", head[1]))


def compile_target(target: Target, folder: Path, chosen: list, on_done=lambda: None) -> dict:
    """Compile entries for a target into folder: NAME.cubin, NAME.ptx, manifest.json, zeroseg_kernels.h."""
    import triton

    folder.mkdir(parents=True, exist_ok=True)
    kernels = []
    for entry in chosen:
        kernels.append(compile_entry(entry, target, folder))
        on_done()
    manifest = {
        "format": FORMAT,
        "target": f"sm_{target.capability}",
        "devices": list(target.devices),
        "triton": triton.__version__,
        "pointer_alignment_bytes": ALIGNMENT,
        "kernels": kernels,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (folder / "zeroseg_kernels.h").write_text(c_header(manifest), encoding="utf-8")
    return manifest


def choose_entries(only: str | None, training: bool = False) -> list:
    """All entries, or those whose name contains one of the comma-separated words."""
    try:
        from zeroseg.kernels.aot_entries import entries
    except ImportError as error:
        raise UnavailableError(
            f"compiling kernels needs torch and triton ({error}): pip install 'zeroseg[gpu]'"
        ) from error
    from zeroseg.kernels import _triton

    if _triton.interpreted():
        raise ZerosegError("TRITON_INTERPRET is set, so kernels are interpreted and not compiled; unset it")
    everything = entries(training)
    if only is None:
        return everything
    words = [word.strip() for word in only.split(",")]
    if unknown := [word for word in words if not any(word in entry.name for entry in everything)]:
        raise ZerosegError(
            f"--only {unknown[0]!r} matches no kernel; there are {', '.join(entry.name for entry in everything)}"
        )
    return [entry for entry in everything if any(word in entry.name for word in words)]


@click.command(epilog="\b\nExample:\n  python -m zeroseg.kernels.aot --target orin,thor -o build/kernels")
@click.option(
    "--target",
    "targets",
    required=True,
    metavar="NAME,...",
    help="Devices (orin, thor, h100, ...) or compute capabilities (sm_87), separated by commas, or all.",
)
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write; every target gets its own folder, such as DIR/sm_87.",
)
@click.option("--only", metavar="WORD,...", help="Only kernels whose names contain one of these words.")
@click.option("--training", is_flag=True, help="Also the backward kernels, and the forward ones with noise.")
@click.option("-n", "--dry-run", is_flag=True, help="List what would be compiled and write nothing.")
def main(targets: str, out: Path, only: str | None, training: bool, dry_run: bool) -> None:
    """Compile the Triton kernels for devices that need not be here: cubin, PTX, manifest.json and a C header."""
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns that its default will change
    try:
        names = list(TARGETS) if targets == "all" else targets.split(",")
        wanted = {target.capability: target for target in map(find_target, names)}
        chosen = choose_entries(only, training)
        plan = {
            target: [entry for entry in chosen if entry.lowest_capability <= target.capability]
            for target in wanted.values()
        }
        if dry_run:
            for target, some in plan.items():
                for entry in some:
                    click.echo(f"{out / f'sm_{target.capability}' / entry.name}.cubin")
            return
        from tqdm import tqdm

        with tqdm(total=sum(map(len, plan.values())), unit="kernel", desc="compiling") as bar:
            for target, some in plan.items():
                bar.set_postfix_str(f"sm_{target.capability}")
                compile_target(target, out / f"sm_{target.capability}", some, bar.update)
    except (ZerosegError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{sum(map(len, plan.values()))} kernels for {', '.join(f'sm_{c}' for c in wanted)} in {out}")


if __name__ == "__main__":
    main()
