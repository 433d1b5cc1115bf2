"""What the kernels take beside what a program would use without them, on this machine.

Every contender takes turns with the kernel and is compared within its own turn: speedup is the median of those ratios,
so that a machine whose speed drifts does not favour anyone. Bytes are those that must move at least (inputs read once,
outputs written once), as a share of what a plain copy moves per second, measured here with as many threads.
No figure is given unless the kernels first agree with their references.

    python bench/kernels.py --threads 2
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

PHOTO = Path(__file__).resolve().parent.parent / "docs" / "photos" / "chelsea.jpg"
FULL_HD = (1080, 1920)
MAPS_SIZE = (20, 36)  # of the bundled model on a 16:9 photo
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Contest(NamedTuple):
    op: str
    impl: str
    case: str
    bytes_moved: int
    flops: int  # of the plain formula, each value of the result from its neighbours
    ours: Callable[[], object]
    contenders: dict[str, Callable[[], object]]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--threads", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), metavar="N",
              help="For the kernels and every contender.")
@click.option("--full", is_flag=True, help="More rounds, and more sizes.")
@click.option("--output", type=click.Path(dir_okay=False), help="Write the JSON here too.")
def main(threads, full, output):
    """Time the CPU kernels and their contenders: a table, then one JSON line, a list of rows.

    \b
    Example:
      python bench/kernels.py --threads 2
    """
    from zeroseg.cli import user_errors

    with user_errors():
        rows = run(threads, full)
    click.echo(f"{'op':<13}{'case':<28}{'contender':<28}{'its ms':>9}{'our ms':>9}{'speedup':>9}{'% of copy':>11}")
    for row in rows:
        click.echo(f"{row['op']:<13}{row['case']:<28}{row['contender']:<28}{row['median_ms']:>9.2f}"
                   f"{row['our_median_ms']:>9.2f}{row['speedup']:>9.2f}{row['percent_of_limit']:>11.1f}")
    text = json.dumps(rows)
    if output:
        Path(output).write_text(text + "\n", encoding="utf-8")
    click.echo(text)


def run(threads: int, full: bool) -> list[dict]:
    """Check the kernels, time all contests, return the rows; ZerosegError if a kernel cannot run or is wrong."""
    import cv2
    import torch

    from zeroseg.bench.commit import current_commit
    from zeroseg.errors import UnavailableError
    from zeroseg.kernels import _native
    from zeroseg.kernels._threads import set_threads

    if reason := _native.why_not():
        raise UnavailableError(f"nothing to time: {reason}")
    set_threads(threads)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        require_correct()
        bandwidth, commit = copy_bandwidth(), current_commit("kernels")
        with torch.inference_mode():
            return [row for contest in contests(full) for row in measure(contest, bandwidth, threads, full, commit)]
    finally:
        set_threads(None)


def require_correct() -> None:
    """Raise ZerosegError unless the native kernels agree with their references on cases.py."""
    from zeroseg.errors import ZerosegError
    from zeroseg.kernels.mask_decode import cases as decode_cases
    from zeroseg.kernels.mask_decode import dense_decode, mask_decode
    from zeroseg.kernels.preprocess import cases as preprocess_cases
    from zeroseg.kernels.preprocess import preprocess

    random = np.random.default_rng(0)

    def require(op: str, name: str, fine: bool) -> None:
        if not fine:
            raise ZerosegError(f"{op}: native and reference differ on the case {name!r}; no figures of a wrong kernel. "
                               f"Run pytest tests/kernels")

    for name, case in decode_cases.CASES.items():
        maps = random.random((case.segments, *case.maps_size), np.float32)
        table = np.arange(len(maps))
        for op, decode, labels in (("mask_decode", mask_decode, (table,)), ("dense_decode", dense_decode, ())):
            ours, truth = (decode(maps, *labels, case.photo_size, impl) for impl in ("native", "reference"))
            require(op, name, np.allclose(ours[1], truth[1], atol=3e-6) and (ours[0] == truth[0]).mean() > 0.99)
    for name, case in preprocess_cases.CASES.items():
        image = random.integers(0, 256, (*case.photo_size, 3), np.uint8)
        ours, truth = (preprocess(image, case.input_size, MEAN, STD, impl) for impl in ("native", "reference"))
        require("preprocess", name, np.abs(ours - truth).max() <= 1.01 / 255 / min(STD))


def copy_bandwidth() -> float:
    """Bytes per second read and written by a plain copy of 64 MiB."""
    import torch

    source = torch.ones(1 << 24)
    target = torch.empty_like(source)
    times = [seconds(lambda: target.copy_(source)) for _ in range(8)]
    return 2 * source.nbytes / statistics.median(times[1:])


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(contest: Contest, bandwidth: float, threads: int, full: bool, commit: str | None = None) -> list[dict]:
    """One row per contender; a slow contender gets fewer rounds."""
    rows = []
    for name, contender in contest.contenders.items():
        contest.ours()
        first = seconds(contender)
        rounds = int(np.clip((6.0 if full else 0.8) / first, 2 if first > 1 and not full else 3, 60))
        pairs = []
        for _ in range(rounds):
            ours = statistics.median(seconds(contest.ours) for _ in range(3))
            pairs.append((seconds(contender), ours))
        theirs_ms, ours_ms = (1000 * statistics.median(column) for column in zip(*pairs))
        ratios = sorted(theirs / ours for theirs, ours in pairs)
        rows.append({
            "op": contest.op, "impl": contest.impl, "case": contest.case, "contender": name, "median_ms": theirs_ms,
            "our_median_ms": ours_ms, "speedup": statistics.median(ratios),
            "speedup_range": [ratios[0], ratios[-1]], "rounds": rounds,
            "percent_of_limit": 100 * contest.bytes_moved / (ours_ms / 1000) / bandwidth,
            "bytes_moved": contest.bytes_moved, "flops": contest.flops,
            "device": f"{platform.machine()} CPU, {threads} threads", "commit": commit})
    return rows


def contests(full: bool):
    yield from decode_contests(full)
    yield from dense_contests(full)
    yield from preprocess_contests(full)


def model_maps() -> np.ndarray:
    """The bundled model's (K, h, w) maps of a photo, at the size it has on a 16:9 frame."""
    from PIL import Image

    from zeroseg.segmenter import Segmenter

    segmenter = Segmenter.load()
    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize((640, 360)))
    tensor = preprocess_op()(photo, tuple(16 * side for side in MAPS_SIZE), MEAN, MEAN)
    vectors = np.zeros((1, segmenter.sidecar.embedding_dim), np.float32)
    vectors[0, 0] = 1
    return segmenter.runner.run({"image": tensor[None], "label_embeddings": vectors})["segment_maps"][0]


def preprocess_op():
    from zeroseg.kernels.preprocess import preprocess

    return preprocess


def noise_maps(segments: int) -> np.ndarray:
    """Soft maps in which every place is independent of its neighbours: the most winners there can be."""
    logits = 3 * np.random.default_rng(segments).normal(size=(segments, *MAPS_SIZE)).astype(np.float32)
    exponent = np.exp(logits - logits.max(0))
    return exponent / exponent.sum(0)


def decode_cost(count: int) -> tuple[int, int]:
    """Bytes and operations of decoding `count` maps to full HD: two products, a sum and a comparison per value."""
    from zeroseg.kernels.mask_decode.cases import Case

    return Case(count, MAPS_SIZE, FULL_HD).bytes_moved, 4 * count * FULL_HD[0] * FULL_HD[1]


def decode_contests(full: bool):
    import cv2
    import torch

    from zeroseg.kernels.mask_decode import mask_decode

    def by_torch(logits):
        tensor = torch.from_numpy(logits)[None]
        return lambda: torch.nn.functional.interpolate(tensor, size=size, mode="bilinear").argmax(1)

    def by_opencv(maps):
        channels_last = np.ascontiguousarray(maps.transpose(1, 2, 0))
        return lambda: cv2.resize(channels_last, size[::-1], interpolation=cv2.INTER_LINEAR).argmax(2)

    size, real = FULL_HD, model_maps()
    for kind, maps in (("model", real), ("noise", noise_maps(len(real)))):
        table = np.arange(len(maps)) - 1
        contenders = {"OpenCV resize + NumPy argmax": by_opencv(maps),
                      f"torch, {len(maps)} segments": by_torch(maps)}
        # without segments every label has a map at full size
        contenders |= {f"torch, {count} labels": by_torch(noise_maps(count)) for count in (21, 171)}
        if kind == "noise" and not full:
            contenders = {"OpenCV resize + NumPy argmax": contenders["OpenCV resize + NumPy argmax"]}
        yield Contest("mask_decode", "native", f"1080p, {kind} maps", *decode_cost(len(maps)),
                      lambda maps=maps, table=table: mask_decode(maps, table, size, "native"), contenders)
    few, many = np.arange(len(real)) % 2, np.linspace(0, 1199, len(real)).astype(int)
    yield Contest("mask_decode", "native", "1080p, 1200 labels", *decode_cost(len(real)),
                  lambda: mask_decode(real, many, size, "native"),
                  {"itself, 2 labels": lambda: mask_decode(real, few, size, "native")})


def dense_contests(full: bool):
    import torch

    from zeroseg.kernels.mask_decode import dense_decode

    for count in (21, 171) if full else (21,):
        logits = noise_maps(count)
        tensor = torch.from_numpy(logits)[None]
        yield Contest("dense_decode", "native", f"1080p, {count} labels, noise", *decode_cost(count),
                      lambda logits=logits: dense_decode(logits, FULL_HD, "native"),
                      {"torch interpolate + argmax": lambda tensor=tensor: torch.nn.functional.interpolate(
                          tensor, size=FULL_HD, mode="bilinear").argmax(1)})


def preprocess_contests(full: bool):
    import cv2
    import torch
    from PIL import Image
    from torchvision.transforms.v2 import functional as TF

    from zeroseg.kernels.preprocess.cases import Case

    preprocess = preprocess_op()
    image = np.asarray(Image.open(PHOTO).convert("RGB").resize(FULL_HD[::-1]))
    chw = torch.from_numpy(image.copy()).permute(2, 0, 1)
    scale, offset = np.float32(1 / (255 * np.array(STD))), np.float32(np.array(MEAN) / np.array(STD))
    for size in ((448, 448), (320, 576), (224, 224)) if full else ((448, 448),):
        def by_opencv(size=size):
            small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
            return np.ascontiguousarray((small * scale - offset).transpose(2, 0, 1))

        def by_torchvision(size=size):
            small = TF.resize(chw, list(size), antialias=True)
            return TF.normalize(TF.to_dtype(small, torch.float32, scale=True), MEAN, STD)

        yield Contest("preprocess", "native", f"1080p to {size[1]}x{size[0]}", Case(FULL_HD, size).bytes_moved,
                      2 * 2 * 3 * FULL_HD[0] * (FULL_HD[1] + size[1]),  # two taps a photo value down, then across
                      lambda size=size: preprocess(image, size, MEAN, STD, "native"),
                      {"Pillow resize + NumPy": lambda size=size: preprocess(image, size, MEAN, STD, "reference"),
                       "Pillow resize alone": lambda size=size: Image.fromarray(image).resize(
                           size[::-1], Image.Resampling.BILINEAR),
                       "torchvision": by_torchvision, "OpenCV area + NumPy": by_opencv})


if __name__ == "__main__":
    main()
