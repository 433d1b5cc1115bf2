"""Masks decoded on the GPU, on the engine's stream: segment maps and scores never wait for the host.

Two kernels compiled ahead of time (zeroseg/kernels/aot.py) lie beside the engine in kernels/sm_XX: segment_labels gives
every segment its best label, mask_decode_int16 every pixel the label of its segment. Their cubins are loaded through
the driver; neither Triton nor a compiler is needed here.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.runtime.trt_memory import DeviceMemory

FOLDER = "kernels"  # beside the engine
NAMES = ("segment_labels", "mask_decode_int16")
FORMAT = 1  # of aot.py's manifest.json
LARGEST_PLACE = 2**28  # the kernel's places are 32-bit integers
TYPES = {"i32": np.int32, "i64": np.int64, "fp32": np.float32}  # every other type is a pointer


class Frame(NamedTuple):
    """What to decode to: size (H, W) of the label maps; segments below threshold are background."""

    size: tuple[int, int]
    threshold: float


def kernel_folder(engine: Path, sm: str) -> Path:
    """Where the kernels of an engine lie for a GPU of compute capability sm ("8.7")."""
    return engine.parent / FOLDER / f"sm_{sm.replace('.', '')}"


class Decoder:
    """The two kernels, loaded on one GPU."""

    def __init__(self, folder: Path, memory: DeviceMemory):
        """ZerosegError when a kernel is missing or another file than the manifest's."""
        self._memory, self._kernels = memory, {}
        entries = read_kernels(folder)
        if missing := [name for name in NAMES if name not in entries]:
            raise ZerosegError(f"{folder}: has no kernel {missing[0]}; make it anew: python -m zeroseg.kernels.aot")
        contents = {name: checked_file(folder, entries[name]) for name in NAMES}
        for name, content in contents.items():
            self._kernels[name] = (memory.load_kernel(content, entries[name]["symbol"]), entries[name])

    def enqueue(
        self,
        scores: int,
        maps: int,
        table: int,
        labels: int,
        confidence: int,
        shape: tuple[int, ...],
        label_count: int,
        frame: Frame,
    ) -> None:
        """Put both kernels on the stream; all addresses are of contiguous device memory.

        scores (B, K, N), maps (B, K, h, w), confidence (B, H, W) float32, table (B, K) int32, labels (B, H, W) int16;
        shape is that of the maps, label_count is N.
        """
        (B, K, h, w), (H, W) = shape, frame.size
        if max(h * H, w * W) >= LARGEST_PLACE:
            raise ZerosegError(f"size: maps of {(h, w)} and a photo of {(H, W)} are too large to decode on the GPU")
        self._launch("segment_labels", B * K, scores=scores, chosen=table, threshold=frame.threshold, N=label_count)
        block = self._kernels["mask_decode_int16"][1]["options"]
        self._launch(
            "mask_decode_int16",
            decode_blocks(shape, frame.size, block["BLOCK_H"], block["BLOCK_W"]),
            maps=maps,
            table=table,
            labels=labels,
            confidence=confidence,
            image=0,
            colors=0,
            picture=0,
            threshold=-np.inf,
            alpha=0,
            color_count=0,
            K=K,
            h=h,
            w=w,
            H=H,
            W=W,
            map_stride_b=K * h * w,
            map_stride_k=h * w,
            map_stride_h=w,
            map_stride_w=1,
        )

    def _launch(self, name: str, blocks: int, **values) -> None:
        kernel, entry = self._kernels[name]
        arguments = [
            TYPES.get(argument["type"], np.uint64)(values[argument["name"]]) for argument in entry["arguments"]
        ]
        arguments += [np.uint64(0)] * entry["null_pointers_after"]
        self._memory.launch(kernel, blocks, entry["block_threads"], entry["shared_bytes"], arguments)


def decode_blocks(maps: tuple[int, ...], size: tuple[int, int], block_h: int, block_w: int) -> int:
    """Blocks of mask_decode: maps (B, K, h, w) to size (H, W). The rows between two rows of the maps share theirs."""
    (B, _, h, _), (H, W) = maps, size
    longest = (3 * H + 2 * h - 1) // (2 * h) + 1 if h > 2 else H
    return B * max(h - 1, 1) * -(-longest // block_h) * -(-W // block_w)


def read_kernels(folder: Path) -> dict[str, dict]:
    """Name -> entry of the folder's manifest.json. ZerosegError when it is none."""
    path = folder / "manifest.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["target"] != folder.name:
            raise ValueError(f"format {document['format']}, for {document['target']}")
        wanted = {
            "symbol": str,
            "files": dict,
            "arguments": list,
            "options": dict,
            "block_threads": int,
            "shared_bytes": int,
            "null_pointers_after": int,
        }
        entries = {entry["name"]: entry for entry in document["kernels"]}
        if bad := [key for entry in entries.values() for key, kind in wanted.items() if type(entry[key]) is not kind]:
            raise ValueError(f"{bad[0]} is malformed")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
        raise ZerosegError(f"{path}: not a list of compiled kernels ({reason})") from error
    return entries


def checked_file(folder: Path, entry: dict) -> bytes:
    """The bytes of an entry's cubin; ZerosegError when it is missing or another one."""
    try:
        file = entry["files"]["cubin"]
        path = folder / Path(file["name"]).name
        content = path.read_bytes()
    except (OSError, LookupError, TypeError) as error:
        raise ZerosegError(f"{folder}: the cubin of {entry['name']} cannot be read ({error})") from error
    if hashlib.sha256(content).hexdigest() != file["sha256"]:
        raise ZerosegError(f"{path}: not the kernel that manifest.json lists (sha256 differs)")
    return content
