"""The C header of kernels compiled ahead of time: for each kernel its symbol, sizes, and a struct of its arguments."""

import re

from zeroseg.kernels.aot_entries import C_TYPES, OUTPUTS

_TOP = """\
// Kernels compiled for {target} by Triton {triton}. Pointers are device memory, aligned to {alignment} bytes.
//
//   CUmodule module; CUfunction function;
//   cuModuleLoad(&module, "NAME.cubin"); cuModuleGetFunction(&function, module, ZS_NAME_SYMBOL);
//   struct zs_NAME_arguments a = {{...}}; void* p[ZS_NAME_PARAMETERS]; zs_NAME_parameters(&a, p);
//   cuLaunchKernel(function, zs_NAME_grid(&a, B), 1, 1, ZS_NAME_THREADS, 1, 1, ZS_NAME_SHARED, stream, p, 0);
//
// Above 48 KiB of shared memory cuFuncSetAttribute must allow it first. Pointers that a kernel's options leave unused
// may be null.
#ifndef ZEROSEG_KERNELS_H
#define ZEROSEG_KERNELS_H
#include <stdint.h>
#define ZS_KERNELS_TARGET "{target}"
"""

_KERNEL = """
#define ZS_{upper}_CUBIN "{cubin}"
#define ZS_{upper}_SYMBOL "{symbol}"
#define ZS_{upper}_THREADS {threads}
#define ZS_{upper}_SHARED {shared}
#define ZS_{upper}_PARAMETERS {count}
struct zs_{name}_arguments {{
{fields}
  void* unused;  // null: for Triton's own scratch pointers
}};
static inline unsigned zs_{name}_grid(const struct zs_{name}_arguments* a, int32_t B) {{
  (void)a;  // a grid of B alone does not look at it
  return (unsigned)({grid});
}}
static inline void zs_{name}_parameters(struct zs_{name}_arguments* a, void** p) {{
{pointers}
}}
"""


def c_header(manifest: dict) -> str:
    """The header's text for a manifest of aot.py."""
    top = _TOP.format(
        target=manifest["target"], triton=manifest["triton"], alignment=manifest["pointer_alignment_bytes"]
    )
    return top + "".join(_kernel(kernel) for kernel in manifest["kernels"]) + "\n#endif\n"


def _kernel(kernel: dict) -> str:
    names = [argument["name"] for argument in kernel["arguments"]]
    fields = [f"  {_c_type(argument)} {argument['name']};" for argument in kernel["arguments"]]
    pointed = names + ["unused"] * kernel["null_pointers_after"]
    return _KERNEL.format(
        name=kernel["name"],
        upper=kernel["name"].upper(),
        cubin=kernel["files"]["cubin"]["name"],
        symbol=kernel["symbol"],
        threads=kernel["block_threads"],
        shared=kernel["shared_bytes"],
        count=len(pointed),
        fields="\n".join(fields),
        grid=_of_struct(kernel["grid"], names),
        pointers="\n".join(f"  p[{index}] = (void*)&a->{name};" for index, name in enumerate(pointed)),
    )


def _c_type(argument: dict) -> str:
    kind = C_TYPES[argument["type"]]
    return kind.removeprefix("const ") if argument["name"] in OUTPUTS else kind


def _of_struct(expression: str, names: list[str]) -> str:
    """The expression with every argument's name read from the struct; B stays the function's own parameter."""
    return re.sub(r"[A-Za-z_]\w*", lambda word: f"a->{word[0]}" if word[0] in names else word[0], expression)
