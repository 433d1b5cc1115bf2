"""The contests of bench/kernels.py on a GPU: our kernels beside eager PyTorch, torch.compile and interpolate + argmax.

Every contender's result is first compared with the kernel's: what is not the same work is not compared. Times are from
the device's own events, over enough calls that the launch of the first does not count.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.kernels import _cuda, _triton
from zeroseg.kernels.mask_decode.batch import mask_decode_batch
from zeroseg.kernels.mask_decode.cases import Case as DecodeCase
from zeroseg.kernels.preprocess.batch import preprocess_batch
from zeroseg.kernels.preprocess.cases import MEAN, STD
from zeroseg.kernels.preprocess.cases import Case as PreprocessCase
from zeroseg.kernels.segment_attention import reference as attention_reference
from zeroseg.kernels.segment_attention import segment_attention
from zeroseg.kernels.segment_attention.cases import Case as AttentionCase

FULL_HD, MAPS_SIZE = (1080, 1920), (20, 36)
CALLS = 20  # between two events
ROUNDS, ROUNDS_FULL = 9, 31
OPTIONS = {"normalize_keys": True, "soft_pooling": False, "eps": 1.0, "tau": 1.0, "seed": None}


class Shapes(NamedTuple):
    """What the contests are about; smaller ones let a CPU try them."""

    decode_batches: tuple[int, ...] = (1, 32)
    photo: tuple[int, int] = FULL_HD
    maps: tuple[int, int] = MAPS_SIZE
    segments: int = 8
    labels: tuple[int, ...] = (21, 171)
    attention: tuple[AttentionCase, ...] = (AttentionCase(32, 784, 32, 384), AttentionCase(32, 784, 32, 768))
    preprocess_batches: tuple[int, ...] = (1, 32)
    input_size: tuple[int, int] = (448, 448)


class Contest(NamedTuple):
    """Calls that do one work. limit: "copy", bytes_moved by the copy's rate, or "matmul", flops by the product's.

    same(ours, theirs) tells whether two results are the same work.
    """

    op: str
    impl: str
    case: str
    bytes_moved: int
    flops: int
    limit: str
    ours: Callable[[], object]
    contenders: dict[str, Callable[[], object]]
    same: Callable[[object, object], bool]


def run(full: bool, commit: str | None) -> list[dict]:
    """The rows of every contest on the first GPU; UnavailableError without one, ZerosegError where results differ."""
    if not torch.cuda.is_available():
        raise UnavailableError("--device cuda: torch sees no GPU here (torch.cuda.is_available() is False)")
    device = torch.device("cuda")
    limits = {"copy": copy_rate(device), "matmul": matmul_rate(device)}
    rows = []
    for contest in contests(device, implementations(device), Shapes()):
        rows += measure(contest, limits, ROUNDS_FULL if full else ROUNDS, torch.cuda.get_device_name(), commit)
    return rows


def implementations(device: torch.device) -> list[str]:
    """Those of ours that run there; UnavailableError where none does."""
    reasons = {"triton": _triton.why_not(device), "cuda": _cuda.why_not(device)}
    found = [name for name, reason in reasons.items() if reason is None]
    if not found:
        raise UnavailableError("nothing to time: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
    return found


def contests(device, impls: list[str], shapes: Shapes, compiled: bool = True) -> Iterator[Contest]:
    """Every op, implementation and shape; compiled: with torch.compile among the contenders."""
    for impl in impls:
        yield from _decoding(device, impl, shapes)
        yield from _attention(device, impl, shapes, compiled)
        yield from _preprocessing(device, impl, shapes)


def measure(contest: Contest, limits: dict[str, float], rounds: int, device: str, commit: str | None) -> list[dict]:
    """One row per contender, in bench/kernels.py's form, with peak_mib of both; ZerosegError where results differ."""
    ours = contest.ours()
    rows = []
    for name, contender in contest.contenders.items():
        if not contest.same(ours, contender()):
            raise ZerosegError(
                f"{contest.op}, {contest.impl}, {contest.case}: differs from {name}; no figures of a "
                "wrong kernel. Run pytest tests/kernels"
            )
        pairs = [(call_ms(contender), call_ms(contest.ours)) for _ in range(rounds)]
        theirs_ms, ours_ms = (statistics.median(column) for column in zip(*pairs))
        ratios = sorted(theirs / mine for theirs, mine in pairs)
        work = {"copy": contest.bytes_moved, "matmul": contest.flops}[contest.limit]
        rows.append(
            {
                "op": contest.op,
                "impl": contest.impl,
                "case": contest.case,
                "contender": name,
                "median_ms": theirs_ms,
                "our_median_ms": ours_ms,
                "speedup": statistics.median(ratios),
                "speedup_range": [ratios[0], ratios[-1]],
                "rounds": rounds,
                "percent_of_limit": 100 * work / (ours_ms / 1000) / limits[contest.limit],
                "limit": contest.limit,
                "bytes_moved": contest.bytes_moved,
                "flops": contest.flops,
                "peak_mib": peak_mib(contender),
                "our_peak_mib": peak_mib(contest.ours),
                "device": device,
                "commit": commit,
            }
        )
    return rows


def call_ms(function: Callable[[], object], calls: int = CALLS) -> float:
    """Milliseconds of a call: by the GPU's events, or by the clock where there is no GPU."""
    if not torch.cuda.is_available():
        start = time.perf_counter()
        function()
        return 1000 * (time.perf_counter() - start)
    function()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / calls


def peak_mib(function: Callable[[], object]) -> float | None:
    """Memory that a call takes at most beside what is there before it, its results included; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def copy_rate(device) -> float:
    """Bytes per second read and written by a copy of 1 GiB."""
    source = torch.ones(1 << 28, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / (statistics.median(call_ms(lambda: target.copy_(source)) for _ in range(5)) / 1000)


def matmul_rate(device, side: int = 8192) -> float:
    """Operations per second of a float32 product without TF32, as the kernels compute."""
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    ms = statistics.median(call_ms(lambda: a @ b, 3) for _ in range(5))
    return 2 * side**3 / (ms / 1000)


def _decoding(device, impl: str, shapes: Shapes) -> Iterator[Contest]:
    def interpolated(logits):
        return lambda: F.interpolate(logits, size=shapes.photo, mode="bilinear").argmax(1)

    def nearly(ours, theirs) -> bool:  # ties and roundings may fall differently
        return (ours[0] == theirs).double().mean().item() > 0.999

    def itself(ours, theirs) -> bool:
        return ours[0].shape == theirs[0].shape and torch.equal(ours[1], theirs[1])

    for batch in shapes.decode_batches:
        maps = _soft_maps(batch, shapes.segments, shapes.maps, device)
        table = torch.arange(shapes.segments, device=device).repeat(batch, 1)
        case = DecodeCase(shapes.segments, shapes.maps, shapes.photo)
        flops = 4 * batch * shapes.segments * shapes.photo[0] * shapes.photo[1]
        decode = _decode(maps, table, shapes.photo, impl)
        yield Contest(
            "mask_decode",
            impl,
            f"batch {batch}, {shapes.photo[0]}p",
            batch * case.bytes_moved,
            flops,
            "copy",
            decode,
            {f"torch, {shapes.segments} segments": interpolated(maps)},
            nearly,
        )
        many = torch.linspace(0, 1199, shapes.segments, device=device).long().repeat(batch, 1)
        few = table % 2
        yield Contest(
            "mask_decode",
            impl,
            f"batch {batch}, 1200 labels",
            batch * case.bytes_moved,
            flops,
            "copy",
            _decode(maps, many, shapes.photo, impl),
            {"itself, 2 labels": _decode(maps, few, shapes.photo, impl)},
            itself,
        )
    # without segments every label has a map at full size; for the work it saves, no result to compare
    maps = _soft_maps(1, shapes.segments, shapes.maps, device)
    table = torch.arange(shapes.segments, device=device)[None]
    case = DecodeCase(shapes.segments, shapes.maps, shapes.photo)
    for count in shapes.labels:
        logits = _soft_maps(1, count, shapes.maps, device)
        yield Contest(
            "mask_decode",
            impl,
            f"{shapes.segments} segments, not {count} labels",
            case.bytes_moved,
            4 * shapes.segments * shapes.photo[0] * shapes.photo[1],
            "copy",
            _decode(maps, table, shapes.photo, impl),
            {f"torch, {count} labels": interpolated(logits)},
            lambda ours, theirs: True,
        )
        yield Contest(
            "dense_decode",
            impl,
            f"{count} labels",
            DecodeCase(count, shapes.maps, shapes.photo).bytes_moved,
            4 * count * shapes.photo[0] * shapes.photo[1],
            "copy",
            _decode(logits, None, shapes.photo, impl),
            {"torch interpolate + argmax": interpolated(logits)},
            nearly,
        )


def _soft_maps(batch: int, count: int, size, device) -> torch.Tensor:
    torch.manual_seed(count)
    return (3 * torch.randn(batch, count, *size, device=device)).softmax(1)


def _decode(maps, table, photo, impl):
    return lambda: mask_decode_batch(maps, table, photo, impl)


def _attention(device, impl: str, shapes: Shapes, compiled: bool) -> Iterator[Contest]:
    def forward(q, k, v):
        return attention_reference.segment_attention(F.normalize(q, dim=-1), k, v, **OPTIONS)[0]

    for case in shapes.attention:
        torch.manual_seed(0)
        q = torch.randn(case.batch, case.groups, case.width, device=device)
        k, v = (torch.randn(case.batch, case.tokens, width, device=device) for width in (case.width, case.values))
        ways = {"eager": forward}
        if compiled:
            ways["torch.compile"] = torch.compile(forward)

        def close(ours, theirs) -> bool:
            return all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in zip(ours, theirs, strict=True))

        def ours(q, k, v):
            return segment_attention(q, k, v, scale=1.0, cosine=True, maps=(), impl=impl).pooled

        name = f"{case.batch} x {case.tokens} patches, {case.width} wide, {case.groups} groups"
        yield Contest(
            "segment_attention",
            impl,
            name,
            case.bytes_moved(4, maps=0),
            case.flops,
            "matmul",
            _no_grad(ours, q, k, v),
            {way: _no_grad(call, q, k, v) for way, call in ways.items()},
            close,
        )
        if impl == "triton":  # the CUDA library has no backward
            yield Contest(
                "segment_attention backward",
                impl,
                name,
                3 * case.bytes_moved(4, maps=0),
                3 * case.flops,
                "matmul",
                _with_grad(ours, q, k, v),
                {way: _with_grad(call, q, k, v) for way, call in ways.items()},
                close,
            )


def _no_grad(call, *tensors):
    def run():
        with torch.no_grad():
            return (call(*tensors),)

    return run


def _with_grad(call, *tensors):
    def run():
        leaves = [x.detach().requires_grad_() for x in tensors]
        pooled = call(*leaves)
        return (pooled.detach(), *torch.autograd.grad(pooled.square().sum(), leaves))

    return run


def _preprocessing(device, impl: str, shapes: Shapes) -> Iterator[Contest]:
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    for batch in shapes.preprocess_batches:
        torch.manual_seed(batch)
        images = torch.randint(0, 256, (batch, *shapes.photo, 3), dtype=torch.uint8, device=device)

        def eager(images=images):
            planes = images.permute(0, 3, 1, 2).float() / 255
            return (F.interpolate(planes, size=shapes.input_size, mode="bilinear", antialias=True) - mean) / std

        case = PreprocessCase(shapes.photo, shapes.input_size)
        yield Contest(
            "preprocess",
            impl,
            f"batch {batch} to {shapes.input_size[1]}x{shapes.input_size[0]}",
            batch * case.bytes_moved,
            batch * 2 * 2 * 3 * shapes.photo[0] * (shapes.photo[1] + shapes.input_size[1]),
            "copy",
            lambda images=images: preprocess_batch(images, shapes.input_size, MEAN, STD, impl),
            {"F.interpolate, antialias": eager},
            lambda ours, theirs: ((ours - theirs).abs() * std).max().item() <= 1.01 / 255,
        )
