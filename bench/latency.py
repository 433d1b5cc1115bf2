"""Time a frame by stage and back end, and the effect of the number of labels.

Everything is timed in one run in which the contenders take turns, and reported as medians. A machine's speed drifts, so
only values from the same run are compared. The input of a frame is a JPEG, its outputs are label map and overlay.

    python bench/latency.py --threads 2
    python bench/latency.py --threads 2 --full --plot latency.png --masks VOC --masks-layout voc-dev
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

try:
    import zeroseg
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import zeroseg

PHOTO = Path(__file__).resolve().parent.parent / "docs" / "photos" / "chelsea.jpg"
SIZES = "640x480,1920x1080"
FULL_SIZES = "224x224,448x448,672x672,640x480,1920x1080"
LABELS_SIZE = (640, 480)  # of the frame that numbers of labels are compared on
SIDES = (224, 448, 672)  # of a square image at the network
BATCHES = (1, 2, 4, 8)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LAYOUTS = ("folder", "voc", "context", "coco-object", "voc-dev")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--model", metavar="FILE|NAME", help="ONNX model to time.  [default: bundled]")
@click.option("--checkpoint", type=FILE, metavar="FILE", help="The same model as model.pt, for the back ends of torch.")
@click.option("--engine", type=FILE, metavar="FILE", help="The same model as .engine, for the back end tensorrt.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Back end to time; may be repeated.  [default: all that can run here but torch-compile]",
)
@click.option("--photo", type=FILE, default=PHOTO, help="Picture to time.")
@click.option("--size", "sizes", default=SIZES, metavar="WxH,...", help="Frame sizes in pixels; --full adds more.")
@click.option("--labels", "counts", default="2,20,171,1200", metavar="N,N", help="Numbers of labels to compare.")
@click.option("--threads", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), metavar="N")
@click.option("--rounds", type=click.IntRange(3), default=10, metavar="N", help="Frames per contender.")
@click.option("--without-kernels", is_flag=True, help="Also run the first back end with NumPy instead of the kernels.")
@click.option("--live-size", is_flag=True, help="Also run the first back end at the smaller size of live pictures.")
@click.option("--edges/--no-edges", default=True, help="Whether the masks follow the photo's edges.")
@click.option("--full", is_flag=True, help="Also run more sizes, batches and peers; takes minutes.")
@click.option(
    "--masks",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of photos with masks: also measure the mIoU of the same file.",
)
@click.option(
    "--masks-layout",
    type=click.Choice(LAYOUTS),
    default="folder",
    help="Layout of --masks, as for zeroseg eval --dataset.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Draw the stages.")
def main(full, plot, **options):
    """Time the stages of a frame on this machine: tables, then one JSON line.

    \b
    Example:
      python bench/latency.py --size 1920x1080 --threads 2
    """
    from zeroseg.bench.latency_plot import check_plot, draw
    from zeroseg.commands.command import user_errors

    with user_errors():
        if plot:
            check_plot(plot)  # before the minutes that the rest takes
        report = run(full=full, say=click.echo, **options)
        if plot:
            draw(report, plot)
            click.echo(f"wrote {plot}")
    click.echo(json.dumps(report))


def run(
    *,
    model,
    checkpoint,
    engine,
    backends,
    photo,
    sizes,
    counts,
    threads,
    rounds,
    without_kernels,
    live_size,
    edges,
    full,
    masks,
    masks_layout,
    say,
) -> dict:
    """Everything the command prints, as plain values; say gets the tables as they are ready."""
    from zeroseg.bench.label_scores import label_pack, time_scores
    from zeroseg.bench.machine import machine
    from zeroseg.bench.stages import STAGES, time_frames
    from zeroseg.commit import current_commit

    sizes = [parse_pair(size) for size in (FULL_SIZES if full and sizes == SIZES else sizes).split(",")]
    counts = parse_counts(counts)
    report = {
        "zeroseg": zeroseg.__version__,
        "commit": current_commit("zeroseg", "kernels", "export", "bench"),
        "threads": threads,
        "rounds": rounds,
        "edges": edges,
        **machine(),
    }
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    say(f"{report['cpu']} ({' '.join(report['instructions'])}), {report['gpu']}, {threads} threads; {versions}")
    files = {".onnx": model, ".pt": checkpoint, ".engine": engine}
    segmenters, report["not_run"] = open_all(files, backends, threads)
    for name, why in report["not_run"].items():
        say(f"{name}: not run, {why}")
    first = next(iter(segmenters.values()))
    sidecar, labels = first.sidecar, counts[0]
    if masks:
        from zeroseg.export.gate import mask_scorer

        score = mask_scorer(masks, masks_layout, sidecar)
    for segmenter in segmenters.values():
        segmenter.set_labels(label_pack(sidecar, labels))
    report["frames"] = []
    say(
        f"\n{'frame':<11}{'back end':<22}"
        + "".join(f"{stage:>11}" for stage in STAGES)
        + f"{'all ms':>9}{'p90':>8}{'FPS':>7}{'network':>9}{'x first':>9}"
    )
    framed, impls = dict(segmenters), {}
    if without_kernels:
        name = next(iter(segmenters))
        framed[f"{name}, NumPy"], impls[f"{name}, NumPy"] = segmenters[name], "reference"
    with tempfile.TemporaryDirectory() as folder:
        pictures = {size: picture(photo, size, Path(folder)) for size in (*sizes, LABELS_SIZE)}
        for size in sizes:
            if live_size:
                name = next(iter(segmenters))
                framed[f"{name}, live"] = as_live(segmenters[name], size)
            for name, row in time_frames(framed, pictures[size], rounds, impls=impls, edges=edges).items():
                report["frames"].append({"size": pictures[size].stem, "backend": name, "labels": labels, **row})
                say(
                    f"{pictures[size].stem:<11}{name:<22}"
                    + "".join(f"{row[stage]:>11.1f}" for stage in STAGES)
                    + f"{row['total_ms']:>9.1f}{row['p90_ms']:>8.1f}{1000 / row['total_ms']:>7.1f}"
                    f"{row['network_share']:>9.0%}{row['speedup']:>9.2f}"
                )
        report["peak_memory_mib"] = measure_memory(
            segmenters, files, threads, labels, [pictures[size] for size in sizes], say
        )
        if len(counts) > 1:
            report["labels"] = time_labels(segmenters, pictures[LABELS_SIZE], counts, rounds, say, edges)
        report["scores"] = time_scores(first.encode(pictures[LABELS_SIZE]), counts, say)
    if full:
        report["batches"] = time_batches(segmenters, rounds, say)
        report["peers"] = time_peers(first, threads, rounds, say)
    if masks:
        report["miou"] = {name: score(segmenter.runner) for name, segmenter in segmenters.items()}
        say("\n" + "\n".join(f"mIoU {miou:.2f}  {name}, {masks.name}" for name, miou in report["miou"].items()))
    return report


def picture(photo: Path, size: tuple[int, int], folder: Path) -> Path:
    """The photo as a JPEG of size (W, H), named WxH."""
    from PIL import Image

    file = folder / f"{size[0]}x{size[1]}.jpg"
    Image.open(photo).convert("RGB").resize(size).save(file, quality=90)
    return file


def as_live(segmenter, size: tuple[int, int]):
    """The segmenter as a live picture of size (W, H) is seen: zeroseg.photos.network_size.live_short_side."""
    from dataclasses import replace

    from zeroseg.photos.network_size import live_short_side
    from zeroseg.segment.segmenter import Segmenter

    spec = segmenter.sidecar.input
    spec = replace(spec, short_side=live_short_side(size, spec.short_side))
    live = Segmenter(segmenter.runner, replace(segmenter.sidecar, input=spec))
    live.pack = segmenter.pack
    return live


def open_all(files: dict, wanted, threads: int):
    """(name -> Segmenter, name -> why not). ZerosegError if none can run.

    files: suffix -> the model in that form, or None; ".onnx" has a default.
    """
    from zeroseg.errors import ZerosegError
    from zeroseg.runtime.backends import BACKENDS
    from zeroseg.segment.segmenter import Segmenter

    slow = () if wanted else ("torch-compile",)  # compiles for minutes: only when asked for
    segmenters, missing = {}, {}
    for name, known in BACKENDS.items():
        source = source_of(files, name)
        if (wanted and name not in wanted) or name in slow or (source is None and ".onnx" not in known.suffixes):
            continue
        try:
            segmenters[name] = Segmenter.load(source, name, threads)
        except ZerosegError as error:
            missing[name] = str(error)
    if not segmenters:
        raise ZerosegError(f"no back end can run: {'; '.join(missing.values()) or f'none is called {wanted}'}")
    return segmenters, missing


def source_of(files: dict, backend: str):
    """Which of the files (suffix -> path or None) the back end reads; None for none, which is the bundled one."""
    from zeroseg.runtime.backends import BACKENDS

    return next((file for suffix, file in files.items() if suffix in BACKENDS[backend].suffixes and file), None)


def measure_memory(segmenters, files: dict, threads: int, labels: int, pictures: list[Path], say) -> dict:
    """Back end -> MiB that a process with it alone, opening it and running all the pictures, had at most."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    from zeroseg.bench.label_scores import label_pack
    from zeroseg.bench.stages import peak_memory_mib

    peaks = {}
    say(f"\n{'most memory, MiB':>17}   back end, in a process of its own")
    for name, segmenter in segmenters.items():
        pack = label_pack(segmenter.sidecar, labels)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a fork would count what is open here
            try:
                source = source_of(files, name)
                peaks[name] = pool.submit(peak_memory_mib, source, name, threads, pack, pictures).result()
            except BrokenProcessPool:
                peaks[name] = None
        say(f"{'not known' if peaks[name] is None else round(peaks[name]):>17}   {name}")
    return peaks


def time_labels(segmenters, file: Path, counts: list[int], rounds: int, say, edges: bool = True) -> list[dict]:
    """One row per back end and number of labels: total_ms and the median over rounds of its time over the first's."""
    from zeroseg.bench.label_scores import label_pack
    from zeroseg.bench.stages import time_frames
    from zeroseg.segment.segmenter import Segmenter

    rows = []
    say(f"\n{'labels':>7}{'all ms':>9}{'network':>9}{'x first':>9}   {file.stem}")
    for backend, segmenter in segmenters.items():
        contenders = {}
        for count in counts:
            contenders[count] = Segmenter(segmenter.runner, segmenter.sidecar)
            contenders[count].set_labels(label_pack(segmenter.sidecar, count))
            if (why := why_not(lambda one=contenders[count]: one.segment(file))) is not None:
                del contenders[count]
                say(f"{count:>7}{'':>27}   {backend}: not run, {why}")
        for count, row in time_frames(contenders, file, rounds, edges=edges).items() if contenders else ():
            rows.append(
                {
                    "backend": backend,
                    "labels": count,
                    "total_ms": row["total_ms"],
                    "network_ms": row["network"],
                    "ratio_to_first": 1 / row["speedup"],
                }
            )
            say(f"{count:>7}{row['total_ms']:>9.1f}{row['network']:>9.1f}{1 / row['speedup']:>9.2f}   {backend}")
    return rows


def time_batches(segmenters, rounds: int, say) -> list[dict]:
    """The network alone on squares: ms per image at batch 1 and at the best batch, of those that the back end takes."""
    from zeroseg.export.race import race

    rows = []
    say(f"\n{'side':>5} {'back end':<22}{'batch 1 ms':>12}{'best batch':>12}{'ms/image':>10}")
    for side in SIDES:
        for name, segmenter in segmenters.items():
            most = segmenter.runner.largest_batch or max(BATCHES)
            calls = {b: network_call(segmenter, b, side) for b in BATCHES if b <= most}
            if (why := why_not(calls[1])) is not None:
                say(f"{side:>5} {name:<22}not run: {why}")
                continue
            laps = race(calls, max(3, rounds // 3), 1)
            best = min(laps, key=lambda b: laps[b].median_ms / b)
            rows.append(
                {
                    "side": side,
                    "backend": name,
                    "batch1_ms": laps[1].median_ms,
                    "best_batch": best,
                    "best_ms_per_image": laps[best].median_ms / best,
                }
            )
            limit = f"   (it takes no more than {most})" if most < max(BATCHES) else ""
            say(f"{side:>5} {name:<22}{laps[1].median_ms:>12.1f}{best:>12}{laps[best].median_ms / best:>10.1f}{limit}")
    return rows


def time_peers(segmenter, threads: int, rounds: int, say) -> list[dict]:
    """Our network and other architectures with random weights, on the same squares, in turns."""
    from zeroseg.bench.peers import make_peers
    from zeroseg.export.race import race

    rows = []
    say(f"\n{'side':>5} {'network (batch 1; peers: latency only, random weights)':<56}{'ms':>9}")
    for side in SIDES:
        calls, missing = make_peers(side, threads)
        ours, call = f"zeroseg {segmenter.sidecar.name}, {segmenter.runner.backend}", network_call(segmenter, 1, side)
        if (why := why_not(call)) is not None:
            say(f"{side:>5} {ours:<56} not run: {why}")
            continue
        laps = race({ours: call, **calls}, max(3, rounds // 3), 1)
        for name, lap in laps.items():
            rows.append({"side": side, "network": name, "ms": lap.median_ms, "times_ours": 1 / lap.speedup})
            say(f"{side:>5} {name:<56}{lap.median_ms:>9.1f}")
        for name, reason in missing.items():
            say(f"{side:>5} {name:<56} not run: {reason}")
    return rows


def network_call(segmenter, batch: int, side: int):
    """A call of the network alone on a batch of squares."""
    image = np.zeros((batch, 3, side, side), np.float32)
    return lambda: segmenter.runner.run(image)


def why_not(call) -> str | None:
    """What a back end says that does not take this size or so many labels; engines have limits. None if it runs."""
    from zeroseg.errors import ZerosegError

    try:
        call()
    except (ZerosegError, ValueError) as error:
        return str(error)
    return None


def parse_pair(text: str) -> tuple[int, int]:
    """ "640x480" -> (640, 480)."""
    from zeroseg.errors import ZerosegError

    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ZerosegError(f"size: expected WIDTHxHEIGHT such as 640x480, got {text!r}")
    return int(width), int(height)


def parse_counts(text: str) -> list[int]:
    """ "2,20" -> [2, 20]."""
    from zeroseg.errors import ZerosegError

    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ZerosegError(f"labels: expected numbers such as 2,20, got {text!r}")
    return [int(part) for part in parts]


if __name__ == "__main__":
    main()
