"""Kernels for TensorRT's ahead-of-time plugins: one PTX text each, with exactly the parameters that TensorRT passes.

TensorRT passes the input tensors, then int32 sizes, then the output tensors, and nothing else. Triton appends pointers
to scratch memory of its own to every kernel. A kernel that used them could not be a plugin; these do not, and their
parameter lists are cut back to what TensorRT passes.
"""

import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from zeroseg.errors import ZerosegError
from zeroseg.kernels.aot import Target, compile_entry
from zeroseg.kernels.aot_entries import Entry, _blocks

LARGEST_SHARED = 48 * 1024  # bytes; more needs a call before the launch, which nobody would make
# PTX ISA that a GPU's first CUDA version brought, where that is after 12.4's: older drivers refuse newer text
OLDEST_PTX = 84
PTX_OF = {100: 86, 110: 90, 120: 87}


class PluginKernel(NamedTuple):
    """symbol: the entry's name in ptx. threads and shared_bytes are a block's."""

    symbol: str
    ptx: str
    threads: int
    shared_bytes: int


def assign_entry(groups: int) -> Entry:
    """q, k | L, S, C | soft, choice; blocks of BLOCK_L tokens."""
    from zeroseg.kernels.segment_attention.triton_plugin import segment_attention_assign_plugin_kernel as kernel

    fixed, launch = _blocks("fp32", groups=groups)
    return _entry("segment_attention_assign", kernel, fixed, launch, q="*fp32", k="*fp32", soft="*fp32", choice="*i32")


def pool_entry(groups: int, eps: float, soft_pooling: bool) -> Entry:
    """v, used | L, S, D | pooled, total; blocks of BLOCK_D columns."""
    from zeroseg.kernels.segment_attention.triton_plugin import segment_attention_pool_plugin_kernel as kernel

    fixed, launch = _blocks("fp32", groups=groups)
    fixed |= {"BLOCK_D": fixed.pop("BLOCK_C"), "EPS": eps, "SOFT_POOLING": soft_pooling}
    return _entry(
        "segment_attention_pool",
        kernel,
        fixed,
        launch,
        v="*fp32",
        used="*fp32" if soft_pooling else "*i32",
        pooled="*fp32",
        total="*fp32",
    )


def _entry(name: str, kernel, fixed: dict, launch: dict, **pointers: str) -> Entry:
    types = {argument: pointers.get(argument, "i32") for argument in kernel.arg_names if argument not in fixed}
    return Entry(name, kernel, types, fixed, "", **launch)


def compile_plugin(entry: Entry, target: Target) -> PluginKernel:
    """ZerosegError where the kernel cannot be compiled or needs what TensorRT does not pass."""
    with tempfile.TemporaryDirectory() as folder:
        made = compile_entry(entry, target, Path(folder), PTX_OF.get(target.capability, OLDEST_PTX))
        ptx = (Path(folder) / made["files"]["ptx"]["name"]).read_text(encoding="utf-8")
    if made["shared_bytes"] > LARGEST_SHARED:
        raise ZerosegError(
            f"{entry.name}: needs {made['shared_bytes']} bytes of shared memory, but a plugin can have at "
            f"most {LARGEST_SHARED}"
        )
    return PluginKernel(
        made["symbol"],
        drop_parameters(ptx, made["symbol"], made["null_pointers_after"]),
        made["block_threads"],
        made["shared_bytes"],
    )


def drop_parameters(ptx: str, symbol: str, count: int) -> str:
    """The PTX without the last `count` parameters of its entry; ZerosegError if one of them is read."""
    head = re.search(rf"(\.entry\s+{re.escape(symbol)}\s*\()(.*?)(\n?\))", ptx, re.DOTALL)
    if head is None:
        raise ZerosegError(f"no entry {symbol} in the PTX that Triton wrote")
    declared = head[2].split(",")
    kept, dropped = declared[: len(declared) - count], declared[len(declared) - count :]
    rest = ptx[head.end() :]
    for parameter in dropped:
        name = parameter.split()[-1]
        if re.search(rf"\b{re.escape(name)}\b", rest):
            raise ZerosegError(f"{symbol}: uses Triton's scratch memory ({name}), which a plugin does not have")
    return ptx[: head.start()] + head[1] + ",".join(kept) + head[3] + rest
