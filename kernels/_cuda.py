"""The CUDA library: where it is, whether it can be used, and how it is called.

It is built by `ZEROSEG_CUDA=1 pip install .`, needs no torch, and is loaded by ctypes. Work is queued on the
current stream of the tensors' device. In tests the same sources, compiled for the CPU (csrc/cuda/emulator.h), take CPU
tensors.
"""

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_float, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from zeroseg.kernels._shared_library import load_library

ABI_VERSION = 2  # of csrc/cuda/zeroseg_cuda.h
_NAME = "zeroseg_cuda.dll" if os.name == "nt" else "libzeroseg_cuda.so"
_STATUS = {1: ValueError}
TYPES = {"float32": 0, "float16": 1, "bfloat16": 2}


class SegmentAttentionArgs(Structure):
    _fields_ = [
        ("q", c_void_p),
        ("k", c_void_p),
        ("v", c_void_p),
        ("k_stride_b", c_int64),
        ("k_stride_l", c_int64),
        ("v_stride_b", c_int64),
        ("v_stride_l", c_int64),
        ("batch", c_int64),
        ("tokens", c_int64),
        ("groups", c_int64),
        ("width", c_int64),
        ("value_width", c_int64),
        ("qk_type", c_int32),
        ("v_type", c_int32),
        ("normalize_queries", c_int32),
        ("normalize_keys", c_int32),
        ("soft_pooling", c_int32),
        ("noise", c_int32),
        ("seed", c_uint64),
        ("scale", c_float),
        ("eps", c_float),
        ("pooled", c_void_p),
        ("total", c_void_p),
        ("choice", c_void_p),
        ("hard", c_void_p),
        ("soft", c_void_p),
    ]


class MaskDecodeArgs(Structure):
    _fields_ = [
        ("maps", c_void_p),
        ("map_stride_b", c_int64),
        ("map_stride_k", c_int64),
        ("map_stride_h", c_int64),
        ("map_stride_w", c_int64),
        ("table", c_void_p),
        ("table_stride_b", c_int64),
        ("batch", c_int64),
        ("segments", c_int64),
        ("rows", c_int64),
        ("columns", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("maps_type", c_int32),
        ("label_bytes", c_int32),
        ("threshold", c_float),
        ("alpha", c_uint32),
        ("labels", c_void_p),
        ("confidence", c_void_p),
        ("image", c_void_p),
        ("colors", c_void_p),
        ("color_count", c_int64),
        ("picture", c_void_p),
    ]


class GuidedDecodeArgs(Structure):
    _fields_ = [
        ("coefficients", c_void_p),
        ("table", c_void_p),
        ("table_stride_b", c_int64),
        ("guide", c_void_p),
        ("batch", c_int64),
        ("segments", c_int64),
        ("cell", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("label_bytes", c_int32),
        ("threshold", c_float),
        ("alpha", c_uint32),
        ("labels", c_void_p),
        ("confidence", c_void_p),
        ("image", c_void_p),
        ("colors", c_void_p),
        ("color_count", c_int64),
        ("picture", c_void_p),
    ]


class PreprocessArgs(Structure):
    _fields_ = [
        ("image", c_void_p),
        ("image_stride_b", c_int64),
        ("row_stride", c_int64),
        ("pixel_stride", c_int64),
        ("channel_stride", c_int64),
        ("batch", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("out_height", c_int64),
        ("out_width", c_int64),
        ("scale", c_float * 3),
        ("offset", c_float * 3),
        ("out_type", c_int32),
        ("out", c_void_p),
    ]


@cache
def _library() -> ctypes.CDLL | str:
    """The loaded library, or the reason why there is none."""
    path = Path(os.environ.get("ZEROSEG_CUDA_LIBRARY") or Path(__file__).resolve().parent / _NAME)
    not_built = f"{path.name} was not built; ZEROSEG_CUDA=1 pip install . builds it; see docs/kernels.md"
    library = load_library(path, not_built, "zs_cuda_abi_version", ABI_VERSION)
    if isinstance(library, str):
        return library
    library.zs_cuda_last_error.restype = ctypes.c_char_p
    library.zs_cuda_segment_attention_workspace.restype = c_int64
    library.zs_cuda_segment_attention.argtypes = [POINTER(SegmentAttentionArgs), c_void_p, c_int64, c_void_p]
    library.zs_cuda_mask_decode.argtypes = [POINTER(MaskDecodeArgs), c_void_p]
    library.zs_cuda_guided_decode.argtypes = [POINTER(GuidedDecodeArgs), c_void_p]
    library.zs_cuda_preprocess.argtypes = [POINTER(PreprocessArgs), c_void_p]
    return library


def emulated() -> bool:
    """Whether the library is the one for tests, which runs the kernels on the CPU."""
    library = _library()
    return not isinstance(library, str) and hasattr(library, "zs_emulator_set_order")


def missing() -> str | None:
    """None where the library is there, else the reason."""
    library = _library()
    return library if isinstance(library, str) else None


def why_not(device) -> str | None:
    """None where the library runs on tensors of `device` (a torch.device), else the reason."""
    if reason := missing():
        return reason
    wanted = "cpu" if emulated() else "cuda"
    return None if device.type == wanted else f"the library needs tensors on a device of type {wanted}, got {device}"


def call(name: str, device, *arguments) -> None:
    """Queue a function's work on the current stream of `device`; raise its message when it fails.

    arguments: a struct, which is passed by reference, and ctypes values; the stream is added last.
    """
    if device.type == "cpu":
        return queue(name, None, *arguments)
    import torch

    with torch.cuda.device(device):
        queue(name, torch.cuda.current_stream().cuda_stream, *arguments)


def queue(name: str, stream: int | None, *arguments) -> None:
    """The same on a stream of the current device, given as its handle; None is the default stream."""
    library = _library()
    arguments = [byref(argument) if isinstance(argument, Structure) else argument for argument in arguments]
    status = getattr(library, name)(*arguments, stream)
    if status:
        raise _STATUS.get(status, RuntimeError)(library.zs_cuda_last_error().decode())


def segment_attention_workspace(args: SegmentAttentionArgs) -> int:
    """Bytes that zs_cuda_segment_attention needs beside its outputs."""
    library = _library()
    needed = library.zs_cuda_segment_attention_workspace(byref(args))
    if needed < 0:
        raise ValueError(library.zs_cuda_last_error().decode())
    return needed
