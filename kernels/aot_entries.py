"""What is compiled ahead of time: every kernel with its argument types, fixed options and grid.

By default what inference needs: the kernels of training serve programs that have Python and compile them themselves.
"""

from dataclasses import dataclass

# triton's name of an argument type -> C's
C_TYPES = {
    "*fp32": "const float*",
    "*fp16": "const uint16_t*",
    "*bf16": "const uint16_t*",
    "*u8": "const uint8_t*",
    "*i16": "const int16_t*",
    "*u16": "const uint16_t*",
    "*i32": "const int32_t*",
    "i32": "int32_t",
    "i64": "int64_t",
    "fp32": "float",
}
OUTPUTS = {
    "choice",
    "chosen",
    "hard",
    "soft",
    "pooled",
    "total",
    "labels",
    "confidence",
    "picture",
    "out",
    "d_q",
    "d_k",
    "d_v",
    "d_logits",
}


@dataclass(frozen=True)
class Entry:
    """One kernel to compile.

    name       of the files; kernel is the function compiled, a triton.jit function.
    types      argument -> triton type, in the kernel's order, without the fixed options.
    fixed      constexpr argument -> value.
    grid       number of blocks as a C expression of arguments and B, the batch; blocks are one-dimensional.
    """

    name: str
    kernel: object
    types: dict[str, str]
    fixed: dict[str, object]
    grid: str
    num_warps: int
    num_stages: int = 2

    @property
    def lowest_capability(self) -> int:
        """The first compute capability that can run it: bfloat16 came with 8.0."""
        return 80 if "*bf16" in self.types.values() else 75


def entries(training: bool = False) -> list[Entry]:
    """All entries; imports the kernels, so triton and torch must be there."""
    inference = [*_segment_attention(), *_mask_decode(), _segment_labels(), *_preprocess()]
    return inference + _segment_attention_training() if training else inference


def _types(kernel, fixed, **known: str) -> dict[str, str]:
    """Types of the arguments that are not fixed; int32 where nothing is known."""
    return {name: known.get(name, "i32") for name in kernel.arg_names if name not in fixed}


_KINDS = ("fp32", "fp16", "bf16")  # of queries, keys and values


def _blocks(kind: str, backward: bool = False, groups: int = 32) -> tuple[dict, dict]:
    """Fixed tile sizes for up to so many groups, and warps and stages."""
    import torch

    from zeroseg.kernels.segment_attention.triton_impl import choose_launch, precision

    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[kind]
    fixed = vars(choose_launch(groups, dtype, backward)) | {"PRECISION": precision(dtype)}
    return fixed, {name: fixed.pop(name) for name in ("num_warps", "num_stages")}


def _blocks_of(axis: str, size: int) -> str:
    return f"(({axis} + {size - 1}) / {size})"


def _assign(name: str, kind: str, **options: bool) -> Entry:
    from zeroseg.kernels.segment_attention.triton_forward import segment_attention_fwd_assign_kernel as kernel

    fixed, launch = _blocks(kind)
    types = _types(
        kernel,
        fixed | options,
        q=f"*{kind}",
        k=f"*{kind}",
        choice="*u8",
        hard="*fp32",
        soft="*fp32",
        seed="i64",
        k_stride_b="i64",
        k_stride_l="i64",
    )
    return Entry(name, kernel, types, fixed | options, f"B * {_blocks_of('L', fixed['BLOCK_L'])}", **launch)


def _segment_attention():
    from zeroseg.kernels.segment_attention.triton_forward import segment_attention_fwd_pool_kernel as pool

    made = []
    for kind in _KINDS:
        for similarity in ("dot", "cosine"):
            made.append(
                _assign(
                    f"segment_attention_assign_{similarity}_{kind}",
                    kind,
                    NORMALIZE=similarity == "cosine",
                    NOISE=False,
                    WITH_HARD=False,
                    WITH_SOFT=True,
                )
            )
        fixed, launch = _blocks(kind)
        fixed |= {"SOFT_POOLING": False, "BLOCK_D": fixed.pop("BLOCK_C")}
        types = _types(
            pool,
            fixed,
            v=f"*{kind}",
            choice="*u8",
            soft="*fp32",
            pooled=f"*{kind}",
            total="*fp32",
            eps="fp32",
            v_stride_b="i64",
            v_stride_l="i64",
        )
        made.append(
            Entry(
                f"segment_attention_pool_{kind}",
                pool,
                types,
                fixed,
                f"B * {_blocks_of('D', fixed['BLOCK_D'])}",
                **launch,
            )
        )
    return made


def _segment_attention_training():
    from zeroseg.kernels.segment_attention import triton_backward

    tokens = triton_backward.segment_attention_bwd_tokens_kernel
    queries = triton_backward.segment_attention_bwd_queries_kernel
    strides = dict.fromkeys((f"{x}_stride_{axis}" for x in "kv" for axis in "bl"), "i64")
    made = []
    for kind in _KINDS:
        made.append(
            _assign(
                f"segment_attention_assign_noise_{kind}",
                kind,
                NORMALIZE=True,
                NOISE=True,
                WITH_HARD=True,
                WITH_SOFT=True,
            )
        )
        fixed, launch = _blocks(kind, backward=True)
        options = dict.fromkeys(("NORMALIZE", "NOISE", "WITH_D_POOLED", "WITH_D_HARD", "WITH_D_SOFT"), True)
        options |= {"SOFT_POOLING": False, "PRECISION_V": fixed["PRECISION"]}
        inputs = dict.fromkeys(("q", "k", "v", "pooled", "d_pooled", "d_logits", "d_q", "d_k", "d_v"), f"*{kind}")
        floats = dict.fromkeys(("total", "d_hard", "d_soft"), "*fp32")
        types = _types(tokens, fixed | options, choice="*u8", seed="i64", tau="fp32", **inputs, **floats, **strides)
        made.append(
            Entry(
                f"segment_attention_backward_tokens_{kind}",
                tokens,
                types,
                fixed | options,
                f"B * {_blocks_of('L', fixed['BLOCK_L'])}",
                **launch,
            )
        )
        types = _types(queries, fixed, **inputs, **strides)
        made.append(
            Entry(
                f"segment_attention_backward_queries_{kind}",
                queries,
                types,
                fixed,
                f"B * {_blocks_of('C', fixed['BLOCK_C'])}",
                **launch,
            )
        )
    return made


def _mask_decode():
    from zeroseg.kernels.mask_decode.triton_impl import LAUNCH, mask_decode_kernel

    strides = dict.fromkeys((f"map_stride_{axis}" for axis in "bkhw"), "i64")
    rows = _blocks_of("(h > 2 ? (3 * H + 2 * h - 1) / (2 * h) + 1 : H)", LAUNCH.BLOCK_H)
    grid = f"B * (h > 1 ? h - 1 : 1) * {rows} * {_blocks_of('W', LAUNCH.BLOCK_W)}"
    made = []
    for name, labels, table, overlay in (
        ("mask_decode_int16", "*i16", True, False),
        ("mask_decode_uint8", "*u8", True, False),
        ("mask_decode_overlay_uint8", "*u8", True, True),
        ("dense_decode_uint16", "*u16", False, False),
    ):
        fixed = {"WITH_TABLE": table, "WITH_OVERLAY": overlay, "BLOCK_H": LAUNCH.BLOCK_H, "BLOCK_W": LAUNCH.BLOCK_W}
        types = _types(
            mask_decode_kernel,
            fixed,
            maps="*fp32",
            table="*i32",
            labels=labels,
            confidence="*fp32",
            image="*u8",
            colors="*u8",
            picture="*u8",
            threshold="fp32",
            **strides,
        )
        made.append(Entry(name, mask_decode_kernel, types, fixed, grid, LAUNCH.num_warps))
    return made


def _segment_labels():
    from zeroseg.kernels.mask_decode.segment_labels import BLOCK_N, segment_labels_kernel

    fixed = {"BLOCK_N": BLOCK_N}
    types = _types(segment_labels_kernel, fixed, scores="*fp32", chosen="*i32", threshold="fp32")
    # B counts segments here: a block each
    return Entry("segment_labels", segment_labels_kernel, types, fixed, "B", num_warps=4)


def _preprocess():
    from zeroseg.kernels.preprocess.triton_impl import LAUNCH, preprocess_kernel

    fixed = {"BLOCK_H": LAUNCH.BLOCK_H, "BLOCK_W": LAUNCH.BLOCK_W}
    numbers = dict.fromkeys((f"{what}_{c}" for what in ("scale", "offset") for c in range(3)), "fp32")
    strides = dict.fromkeys((f"stride_{axis}" for axis in "bhwc"), "i64")
    grid = f"B * {_blocks_of('h', LAUNCH.BLOCK_H)} * {_blocks_of('w', LAUNCH.BLOCK_W)}"
    return [
        Entry(
            f"preprocess_{kind}",
            preprocess_kernel,
            _types(preprocess_kernel, fixed, image="*u8", out=f"*{kind}", **numbers, **strides),
            fixed,
            grid,
            LAUNCH.num_warps,
        )
        for kind in ("fp32", "fp16")
    ]
