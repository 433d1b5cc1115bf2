"""The CUDA library on arrays of CuPy, Numba, cuda-python or anything with `__cuda_array_interface__`; no torch.

The protocol (numba.readthedocs.io, "CUDA Array Interface", version 3) gives pointer, shape, strides, type and the
stream on which the data will be ready. Outputs are the caller's, as the library allocates nothing. Work is queued on
the arrays' stream, of the current device, and nothing waits for it: arrays must live until that stream has passed.

    labels, confidence = cupy.empty((1, 480, 640), "int16"), cupy.empty((1, 480, 640), "float32")
    mask_decode_into(maps, table, labels, confidence)
"""

from collections.abc import Sequence
from ctypes import c_float
from math import isnan
from typing import NamedTuple

from zeroseg.errors import UnavailableError, check_array
from zeroseg.kernels import _cuda

_TYPES = {"|u1": "uint8", "<u2": "uint16", "<i2": "int16", "<i4": "int32", "<f2": "float16", "<f4": "float32"}


class DeviceArray(NamedTuple):
    """What the protocol says of an array."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    dtype: str
    stream: int | None  # handle to queue on; None where the data are ready for every stream
    read_only: bool

    @property
    def contiguous(self) -> bool:
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides)):
            if size > 1 and stride != expected:
                return False
            expected *= size
        return True


def describe(
    name: str,
    array,
    shape: Sequence[int | str],
    dtype: str | Sequence[str],
    *,
    contiguous: bool = False,
    written: bool = False,
) -> DeviceArray:
    """Read `array`; ValueError unless it has this shape and dtype (as check_array) and can be used in place."""
    facts = getattr(array, "__cuda_array_interface__", None)
    if facts is None:
        raise ValueError(
            f"{name}: expected an array with __cuda_array_interface__ (CuPy, Numba, ...), got {type(array).__name__}"
        )
    if facts.get("mask") is not None:
        raise ValueError(f"{name}: expected an array without a mask")
    if facts["typestr"] not in _TYPES:
        raise ValueError(f"{name}: expected one of {', '.join(_TYPES.values())}, got the type {facts['typestr']!r}")
    stream = facts.get("stream")
    if stream == 0:
        raise ValueError(
            f"{name}: its stream is 0, which the protocol does not allow: 1 is the default stream, 2 the thread's own"
        )
    found = DeviceArray(facts["data"][0], tuple(facts["shape"]), (), _TYPES[facts["typestr"]], stream, facts["data"][1])
    check_array(name, found, shape, dtype)
    if 0 in found.shape:
        raise ValueError(f"{name}: expected no empty axis, got {found.shape}")
    size = int(facts["typestr"][2:])
    steps = facts.get("strides")
    if steps is None:  # C order
        steps, step = [], size
        for axis in reversed(found.shape):
            steps.insert(0, step)
            step *= axis
    if any(step % size for step in steps):
        raise ValueError(f"{name}: its strides {tuple(steps)} are not multiples of its {size} bytes an element")
    found = found._replace(strides=tuple(step // size for step in steps))
    if contiguous and not found.contiguous:
        raise ValueError(f"{name}: expected a contiguous array, got strides of {tuple(steps)} bytes")
    if written and found.read_only:
        raise ValueError(f"{name}: expected an array that may be written, got a read-only one")
    return found


def mask_decode_into(
    maps,
    table,
    labels,
    confidence=None,
    *,
    threshold: float = float("-inf"),
    image=None,
    colors=None,
    picture=None,
    alpha: float = 0.5,
    stream: int | None = None,
) -> None:
    """Decode soft maps, or label logits, into arrays that are there.

    maps        (B, K, h, w) float32 or float16 of any strides, finite.
    table       (B, K) int32, contiguous: label of each segment, -1 for background; None where segment k is label k.
    labels      (B, H, W) uint8, uint16 or int16, contiguous, written; background is -1 or the type's largest value.
    confidence  (B, H, W) float32, contiguous, written; or None.
    threshold   pixels whose best value is lower become background.
    image, colors, picture  (B, H, W, 3), (N, 3), (B, H, W, 3) uint8, contiguous: with all three the tinted photo is
                written too, by opacity alpha in [0, 1]; picture may be image.
    stream      handle to queue on; None takes the arrays' own. Needed where theirs differ: make it wait for them first.

    Raises ValueError for anything else than the above, UnavailableError without the library.
    """
    _require_library()
    m = describe("maps", maps, ("B", "K", "h", "w"), ("float32", "float16"))
    B, K, h, w = m.shape
    out = describe("labels", labels, (B, "H", "W"), ("int16", "uint8", "uint16"), contiguous=True, written=True)
    H, W = out.shape[1:]
    if isnan(threshold) or not 0 <= alpha <= 1:
        raise ValueError(f"threshold, alpha: expected a number and 0 to 1, got {threshold} and {alpha}")
    args = _cuda.MaskDecodeArgs(
        m.pointer,
        *m.strides,
        batch=B,
        segments=K,
        rows=h,
        columns=w,
        height=H,
        width=W,
        maps_type=_cuda.TYPES[m.dtype],
        label_bytes=1 if out.dtype == "uint8" else 2,
        threshold=threshold,
        alpha=round(alpha * 255),
        labels=out.pointer,
    )
    used = [m, out]
    if table is not None:
        used.append(describe("table", table, (B, K), "int32", contiguous=True))
        args.table, args.table_stride_b = used[-1].pointer, K
    if confidence is not None:
        used.append(describe("confidence", confidence, (B, H, W), "float32", contiguous=True, written=True))
        args.confidence = used[-1].pointer
    if picture is not None:
        photos = describe("image", image, (B, H, W, 3), "uint8", contiguous=True)
        tints = describe("colors", colors, ("N", 3), "uint8", contiguous=True)
        drawn = describe("picture", picture, (B, H, W, 3), "uint8", contiguous=True, written=True)
        args.image, args.colors, args.picture = photos.pointer, tints.pointer, drawn.pointer
        args.color_count = tints.shape[0]
        used += [photos, tints, drawn]
    _cuda.queue("zs_cuda_mask_decode", _stream(stream, used), args)


def preprocess_into(
    images, out, mean: Sequence[float], std: Sequence[float], *, order: str = "rgb", stream: int | None = None
) -> None:
    """Resize and normalise photos into an array that is there.

    images     (B, H, W, 3) uint8 of any strides.
    out        (B, 3, h, w) float32 or float16, contiguous, written; RGB.
    mean, std  three values each, for RGB in [0, 1]; std positive.
    order      "rgb" or "bgr" of the photos.
    stream     as for mask_decode_into.

    Raises ValueError for anything else than the above, UnavailableError without the library.
    """
    _require_library()
    photos = describe("images", images, ("B", "H", "W", 3), "uint8")
    made = describe("out", out, (photos.shape[0], 3, "h", "w"), ("float32", "float16"), contiguous=True, written=True)
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"mean, std: expected three values each, std positive, got {mean}, {std}")
    if order not in ("rgb", "bgr"):
        raise ValueError(f"order: expected rgb or bgr, got {order!r}")
    swap, (*steps, channel) = order == "bgr", photos.strides
    args = _cuda.PreprocessArgs(
        photos.pointer + 2 * channel * swap,
        *steps,
        -channel if swap else channel,
        batch=photos.shape[0],
        height=photos.shape[1],
        width=photos.shape[2],
        out_height=made.shape[2],
        out_width=made.shape[3],
        scale=(c_float * 3)(*(1 / s for s in std)),
        offset=(c_float * 3)(*(-m / s for m, s in zip(mean, std))),
        out_type=_cuda.TYPES[made.dtype],
        out=made.pointer,
    )
    _cuda.queue("zs_cuda_preprocess", _stream(stream, [photos, made]), args)


def _require_library() -> None:
    if reason := _cuda.missing():
        raise UnavailableError(reason)


def _stream(given: int | None, arrays: list[DeviceArray]) -> int | None:
    if given is not None:
        return given
    streams = {array.stream for array in arrays} - {None}
    if len(streams) > 1:
        raise ValueError(
            f"stream: the arrays are on several streams ({', '.join(map(str, sorted(streams)))}); pass "
            f"the one to queue on, after making it wait for the others"
        )
    return next(iter(streams), None)
