"""Kernels compiled for devices that are not here: the command runs, and what it writes is what it says it is."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

from zeroseg.errors import ZerosegError  # noqa: E402
from zeroseg.kernels.aot import TARGETS, find_target  # noqa: E402
from zeroseg.kernels.aot_entries import entries  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
EM_CUDA = 190


def run(*arguments, environment=None):
    """The command in a process of its own, because this one may have Triton's interpreter on."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "-m", "zeroseg.kernels.aot", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env=inherited | (environment or {}),
    )


def check_folder(folder, sm):
    """Every file that the manifest names; returns the manifest's kernels."""
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["target"] == sm
    for kernel in manifest["kernels"]:
        content = {}
        for kind, file in kernel["files"].items():
            content[kind] = (folder / file["name"]).read_bytes()
            assert hashlib.sha256(content[kind]).hexdigest() == file["sha256"]
            assert len(content[kind]) == file["bytes"]
        magic, bits, machine = struct.unpack_from("<4sB13xH", content["cubin"])
        assert (magic, bits, machine) == (b"\x7fELF", 2, EM_CUDA)
        assert f".text.{kernel['symbol']}".encode() in content["cubin"]
        ptx = content["ptx"].decode()
        assert re.search(rf"^\.target {sm}a?\b", ptx, re.MULTILINE)
        declared = re.search(rf"\.visible \.entry {kernel['symbol']}\((.*?)\)", ptx, re.DOTALL)[1]
        kinds = re.findall(r"\.param \.(\w+)", declared)
        expected = [
            {"i32": "u32", "i64": "u64", "fp32": "f32"}.get(argument["type"], "u64") for argument in kernel["arguments"]
        ] + ["u64"] * kernel["null_pointers_after"]
        assert [re.sub("[bs]", "u", kind) for kind in kinds] == expected
        assert kernel["shared_bytes"] <= TARGETS[sm].shared_kib * 1024
        assert kernel["block_threads"] == 32 * kernel["num_warps"]
    return manifest["kernels"]


def check_header(folder, kernels):
    """C and C++ compilers accept it; the grid of a known case is what the launcher would use."""
    if not shutil.which("cc"):
        return
    lines = ['#include "zeroseg_kernels.h"', "#include <stdio.h>", "int main(void) {"]
    for kernel in kernels:
        name = kernel["name"]
        sizes = {argument["name"]: 37 for argument in kernel["arguments"] if argument["name"] in "LSCDHWhw"}
        fields = ", ".join(f".{key} = {value}" for key, value in sizes.items())
        lines += [
            f"  struct zs_{name}_arguments a_{name} = {{{fields}}};",
            f"  void* p_{name}[ZS_{name.upper()}_PARAMETERS]; zs_{name}_parameters(&a_{name}, p_{name});",
            f'  printf("%u\\n", zs_{name}_grid(&a_{name}, 3));',
        ]
    source, program = folder / "check.c", folder / "check"
    source.write_text("\n".join([*lines, "  return 0;", "}"]))
    subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-o", program, source],
        check=True,
        capture_output=True,
    )
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
    for kernel, blocks in zip(kernels, map(int, printed)):
        size = {"L": 37, "S": 37, "C": 37, "D": 37, "H": 37, "W": 37, "h": 37, "w": 37, "B": 3}
        rule = kernel["grid"].replace("(h > 1 ? h - 1 : 1)", "(h - 1)")  # C's way to write max(h - 1, 1)
        rule = re.sub(r"\(h > 2 \? (.*?) : H\)", r"(\1)", rule)
        assert blocks == eval(rule.replace("/", "//"), {}, size)


@pytest.mark.slow
def test_one_kernel_for_all_targets(tmp_path):
    done = run("--target", "all", "--only", "mask_decode_uint8", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9 kernels for sm_75, sm_80" in done.stdout
    for sm in TARGETS:
        [kernel] = check_folder(tmp_path / sm, sm)
        assert kernel["name"] == "mask_decode_uint8"


@pytest.mark.slow
def test_all_kernels_for_one_target(tmp_path):
    """Those of training too, on the target with the least shared memory that multiplies bfloat16."""
    done = run("--target", "rtx30", "--training", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    kernels = check_folder(tmp_path / "sm_86", "sm_86")
    assert len({kernel["name"] for kernel in kernels}) == len(kernels) > 20
    assert sum("backward" in kernel["name"] for kernel in kernels) == 6
    check_header(tmp_path / "sm_86", kernels)


def test_bfloat16_is_left_out_where_there_is_none():
    names = {entry.name: entry.lowest_capability for entry in entries(training=True)}
    assert {name for name, lowest in names.items() if lowest > 75} == {name for name in names if "bf16" in name}


def test_one_kernel_for_two_targets(tmp_path):
    done = run("--target", "orin,H200,sm_87", "--only", "preprocess_fp16", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sm_87", "sm_90"]
    for sm in ("sm_87", "sm_90"):
        kernels = check_folder(tmp_path / sm, sm)
        assert [argument["name"] for argument in kernels[0]["arguments"]][:3] == ["image", "out", "scale_0"]
        check_header(tmp_path / sm, kernels)


def test_target_of_every_name():
    for sm, target in TARGETS.items():
        assert find_target(sm) is target
        assert all(find_target(device.upper()) is target for device in target.devices)
    assert find_target("thor").capability == 110 and find_target("orin").capability == 87


def test_unknown_target_is_one_line_with_the_list():
    with pytest.raises(ZerosegError, match=r"'sm_61' is not known; choose from sm_75 \(t4 rtx20\), .*thor") as raised:
        find_target("sm_61")
    assert "\n" not in str(raised.value)


def test_command_refuses_what_it_cannot_do(tmp_path):
    for arguments, environment, message in (
        (["--target", "xavier"], {}, "--target 'xavier' is not known; choose from sm_75"),
        (["--target", "orin", "--only", "nothing"], {}, "--only 'nothing' matches no kernel; there are segment_att"),
        (["--target", "orin"], {"TRITON_INTERPRET": "1"}, "TRITON_INTERPRET is set"),
    ):
        done = run(*arguments, "-o", tmp_path / "out", environment=environment)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_dry_run_writes_nothing(tmp_path):
    done = run("--target", "orin", "--only", "mask_decode", "-n", "-o", tmp_path / "out")
    assert done.returncode == 0
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        "mask_decode_int16.cubin",
        "mask_decode_uint8.cubin",
        "mask_decode_overlay_uint8.cubin",
    ]
    assert not (tmp_path / "out").exists()


def test_help_has_an_example_and_is_quick():
    done = run("--help")
    assert "python -m zeroseg.kernels.aot --target orin,thor -o build/kernels" in done.stdout
    code = "import sys, zeroseg.kernels.aot; print({'torch', 'triton'} & set(sys.modules))"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert imported.stdout.strip() == "set()"
