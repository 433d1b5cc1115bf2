"""Time the kernels against the usual alternatives, on this machine.

Every contender takes turns with the kernel and is compared within its own turn. The speedup is the median of those
ratios, so a machine whose speed drifts favours nobody. Bytes are the least that must move (inputs read once, outputs
written once), as a share of the rate of a plain copy, measured here with the same number of threads. Figures are given
only if the kernels first agree with their references.

    python bench/kernels.py --threads 2
    python bench/kernels.py --device cuda
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

from zeroseg.bench.kernel_contests import MEAN, STD, Contest, contests


class Goal(NamedTuple):
    where: dict[str, str]  # row -> values that it has
    speedup: float


GOALS = (
    Goal({"op": "mask_decode", "impl": "native", "contender": "torch, 21 labels"}, 50),
    Goal({"op": "mask_decode", "impl": "native", "contender": "torch, 171 labels"}, 150),
    Goal({"op": "mask_decode", "impl": "native", "contender": "OpenCV resize + NumPy argmax"}, 8),
    Goal({"op": "mask_decode", "impl": "native", "contender": "OpenCV guided filter + NumPy argmax"}, 8),
    Goal({"op": "mask_decode", "impl": "native", "contender": "itself, 2 labels"}, 1 / 1.1),
    Goal({"op": "preprocess", "impl": "native", "contender": "Pillow resize alone"}, 2),
    *(
        goal
        for impl in ("triton", "cuda")
        for goal in (
            Goal({"op": "mask_decode", "impl": impl, "contender": "torch, 21 labels"}, 20),
            Goal({"op": "mask_decode", "impl": impl, "contender": "torch, 171 labels"}, 100),
            Goal({"op": "mask_decode", "impl": impl, "contender": "itself, 2 labels"}, 1 / 1.1),
            Goal({"op": "segment_attention", "impl": impl, "contender": "torch.compile"}, 2),
            Goal({"op": "segment_attention backward", "impl": impl, "contender": "torch.compile"}, 1.5),
        )
    ),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=min(2, os.cpu_count() or 1),
    metavar="N",
    help="Threads of the kernels and of every contender.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    help="cpu: the native kernels; cuda: those of Triton and CUDA C++ on the first GPU.",
)
@click.option("--full", is_flag=True, help="More rounds and more sizes.")
@click.option("--output", type=click.Path(dir_okay=False), help="Also write the JSON to this file.")
def main(threads, device, full, output):
    """Time the kernels and their contenders: a table, then one JSON line, a list of rows.

    \b
    Example:
      python bench/kernels.py --threads 2
      python bench/kernels.py --device cuda --full
    """
    from zeroseg.commands.command import user_errors
    from zeroseg.commit import current_commit

    with user_errors():
        commit = current_commit("kernels")
        if device == "cuda":
            rows = run_on_gpu(full, commit)
        else:
            rows = run(threads, full, commit)
    command = "python bench/kernels.py " + (f"--threads {threads}" if device == "cpu" else "--device cuda")
    rows = [{**row, "command": command + " --full" * full} for row in rows]
    wide = max(len(row["case"]) for row in rows) + 2
    click.echo(
        f"{'op':<28}{'impl':<8}{'case':<{wide}}{'contender':<29}{'its ms':>9}{'our ms':>9}{'speedup':>9}"
        f"{'% of limit':>12}"
    )
    for row in rows:
        click.echo(
            f"{row['op']:<28}{row['impl']:<8}{row['case']:<{wide}}{row['contender']:<29}{row['median_ms']:>9.2f}"
            f"{row['our_median_ms']:>9.2f}{row['speedup']:>9.2f}{row['percent_of_limit']:>12.1f}"
        )
    for goal in missed_goals(rows):
        click.echo(f"goal missed: {goal}")
    text = json.dumps(rows)
    if output:
        Path(output).write_text(text + "\n", encoding="utf-8")
    click.echo(text)


def run_on_gpu(full: bool, commit: str | None) -> list[dict]:
    """The rows of bench/kernels_gpu.py; UnavailableError in one line without torch or a GPU."""
    from zeroseg.errors import missing_extra

    try:
        from zeroseg.bench.kernels_gpu import run as run_gpu
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "gpu", "--device cuda") from error
    return run_gpu(full, commit)


def missed_goals(rows: list[dict]) -> list[str]:
    """A line for every row below its goal: what was hoped for, what came."""
    lines = []
    for row in rows:
        for goal in GOALS:
            if all(row[name] == value for name, value in goal.where.items()) and row["speedup"] < goal.speedup:
                lines.append(
                    f"{row['op']} ({row['impl']}, {row['case']}) beside {row['contender']}: {goal.speedup:g} "
                    f"times as fast, got {row['speedup']:.2f}"
                )
    return lines


def run(threads: int, full: bool, commit: str | None = None) -> list[dict]:
    """Check the kernels, time all contests, return the rows; ZerosegError if a kernel cannot run or is wrong."""
    import cv2
    import torch

    from zeroseg.errors import UnavailableError
    from zeroseg.kernels import _native
    from zeroseg.kernels._threads import set_threads

    if reason := _native.why_not():
        raise UnavailableError(f"nothing to measure: {reason}")
    set_threads(threads)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        require_correct()
        bandwidth = copy_bandwidth()
        with torch.inference_mode():
            return [row for contest in contests(full) for row in measure(contest, bandwidth, threads, full, commit)]
    finally:
        set_threads(None)


def require_correct() -> None:
    """Raise ZerosegError unless the native kernels agree with their references on cases.py."""
    from zeroseg.errors import ZerosegError
    from zeroseg.kernels.best_products import best_products
    from zeroseg.kernels.best_products import cases as products_cases
    from zeroseg.kernels.mask_decode import cases as decode_cases
    from zeroseg.kernels.mask_decode import dense_decode, mask_decode
    from zeroseg.kernels.preprocess import cases as preprocess_cases
    from zeroseg.kernels.preprocess import preprocess
    from zeroseg.kernels.tint import cases as tint_cases
    from zeroseg.kernels.tint import tint

    random = np.random.default_rng(0)

    def require(op: str, name: str, fine: bool) -> None:
        if not fine:
            raise ZerosegError(
                f"{op}: native and reference differ on the case {name!r}; no figures of a wrong kernel. "
                f"Run pytest tests/kernels"
            )

    for name, case in decode_cases.CASES.items():
        maps = random.random((case.segments, *case.maps_size), np.float32)
        table = np.arange(len(maps))
        for op, decode, labels in (("mask_decode", mask_decode, (table,)), ("dense_decode", dense_decode, ())):
            ours, truth = (decode(maps, *labels, case.photo_size, impl) for impl in ("native", "reference"))
            require(op, name, np.allclose(ours[1], truth[1], atol=3e-6) and (ours[0] == truth[0]).mean() > 0.99)
        guide = random.integers(0, 256, (*case.photo_size, 3), np.uint8)
        ours, truth = (mask_decode(maps, table, case.photo_size, impl, guide=guide) for impl in ("native", "reference"))
        require(
            "mask_decode with a guide",
            name,
            np.allclose(ours[1], truth[1], atol=2e-5) and (ours[0] == truth[0]).mean() > 0.99,
        )
    for name, case in preprocess_cases.CASES.items():
        image = random.integers(0, 256, (*case.photo_size, 3), np.uint8)
        ours, truth = (preprocess(image, case.input_size, MEAN, STD, impl) for impl in ("native", "reference"))
        require("preprocess", name, np.abs(ours - truth).max() <= 1.01 / 255 / min(STD))
    for name, case in tint_cases.CASES.items():
        image, colors = (random.integers(0, 256, (*shape, 3), np.uint8) for shape in (case.size, (case.labels,)))
        label_map = random.integers(-1, case.labels, case.size).astype(np.int16)
        ours, truth = (tint(image, label_map, colors, 0.4, case.outline_px, impl) for impl in ("native", "reference"))
        require("tint", name, np.array_equal(ours, truth))
    for name, case in products_cases.CASES.items():
        vectors, first, directions = case.draw(random)
        ours, truth = (best_products(vectors, first, directions, impl) for impl in ("native", "reference"))
        require("best_products", name, np.array_equal(ours, truth))


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
                "percent_of_limit": 100 * contest.bytes_moved / (ours_ms / 1000) / bandwidth,
                "bytes_moved": contest.bytes_moved,
                "flops": contest.flops,
                "device": f"{platform.machine()} CPU, {threads} threads",
                "commit": commit,
            }
        )
    return rows


if __name__ == "__main__":
    main()
