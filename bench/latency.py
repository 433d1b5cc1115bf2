"""How long a frame takes, stage by stage, and whether the number of labels matters.

Everything is timed in one run with the contenders taking turns, and reported as medians: a machine's speed drifts, so
only what was measured side by side is compared. A frame is decoded pixels in, label map out; reading a file and
writing results are not counted.

    python bench/latency.py --threads 2
"""

import json
import os
import platform
import statistics
import sys
from pathlib import Path

import click
import numpy as np

try:
    import zeroseg
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import zeroseg

STAGES = ("preprocess", "network", "decode")
PHOTO = Path(__file__).resolve().parent.parent / "docs" / "photos" / "chelsea.jpg"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--model", metavar="FILE|NAME", help="Model to time.  [default: bundled]")
@click.option("--photo", type=click.Path(exists=True, dir_okay=False), default=PHOTO, help="Picture to time.")
@click.option("--size", default="640x480", metavar="WxH", help="Frame size in pixels.")
@click.option("--labels", "counts", default="2,20,171,1200", metavar="N,N", help="Numbers of labels to compare.")
@click.option("--threads", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), metavar="N")
@click.option("--rounds", type=click.IntRange(3), default=40, metavar="N", help="Frames per number of labels.")
def main(model, photo, size, counts, threads, rounds):
    """Time the stages of one frame on this machine: a table, then one JSON line.

    \b
    Example:
      python bench/latency.py --size 1920x1080 --threads 2
    """
    from zeroseg.cli import user_errors

    with user_errors():
        rows = measure(model, photo, parse_pair(size), [int(n) for n in counts.split(",")], threads, rounds)
    click.echo(f"{'labels':>7}" + "".join(f"{stage + ' ms':>15}" for stage in STAGES) +
               f"{'frame ms':>12}{'p90 ms':>9}{'frames/s':>10}{'x first':>9}")
    for row in rows:
        click.echo(f"{row['labels']:>7}" + "".join(f"{row[stage + '_ms']:>15.1f}" for stage in STAGES) +
                   f"{row['frame_ms']:>12.1f}{row['frame_p90_ms']:>9.1f}{1000 / row['frame_ms']:>10.1f}"
                   f"{row['ratio_to_first']:>9.2f}")
    click.echo(json.dumps({"zeroseg": zeroseg.__version__, "machine": platform.machine(), "threads": threads,
                           "size": size, "rounds": rounds, "rows": rows}))


def measure(model, photo, size: tuple[int, int], counts: list[int], threads: int, rounds: int) -> list[dict]:
    """Median milliseconds per stage for every number of labels; size (width, height) px.

    ratio_to_first is the median over rounds of the frame's time over that of the first number of labels.
    """
    from PIL import Image

    from zeroseg.segmenter import Segmenter
    from zeroseg.words import LabelPack

    frame = np.asarray(Image.open(photo).convert("RGB").resize(size))
    segmenter = Segmenter.load(model, threads=threads)
    dim, space = segmenter.sidecar.embedding_dim, segmenter.sidecar.embedding_space
    packs = []
    for count in counts:
        vectors = np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        packs.append(LabelPack(names=[f"label {i}" for i in range(count)], vectors=vectors, space=space))
    times = {count: [] for count in counts}
    for turn in range(rounds + 3):
        for count, pack in zip(counts, packs):
            result = segmenter.set_labels(pack).segment(frame)
            if turn >= 3:  # warm-up
                times[count].append([result.timings_ms[stage] for stage in STAGES])
    totals = {count: [sum(stages) for stages in rows] for count, rows in times.items()}
    rows = []
    for count in counts:
        ratios = [a / b for a, b in zip(totals[count], totals[counts[0]])]
        row = {"labels": count, "frame_ms": statistics.median(totals[count]),
               "frame_p90_ms": sorted(totals[count])[int(0.9 * rounds)], "ratio_to_first": statistics.median(ratios)}
        row |= {f"{stage}_ms": statistics.median(r[i] for r in times[count]) for i, stage in enumerate(STAGES)}
        rows.append(row)
    return rows


def parse_pair(text: str) -> tuple[int, int]:
    """"640x480" -> (640, 480)."""
    from zeroseg.errors import ZerosegError

    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ZerosegError(f"size: expected WIDTHxHEIGHT such as 640x480, got {text!r}")
    return int(width), int(height)


if __name__ == "__main__":
    main()
