"""How long a frame takes, stage by stage and back end by back end, and whether the number of labels matters.

Everything is timed in one run with the contenders taking turns, and reported as medians: a machine's speed drifts, so
only what was measured side by side is compared. A frame is a JPEG in, label map and overlay out.

    python bench/latency.py --threads 2
    python bench/latency.py --threads 2 --full --plot latency.png --masks VOC --masks-layout voc-dev
"""

import importlib.metadata
import json
import os
import platform
import subprocess
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
SIDES = (224, 448, 672)  # of a square image at the network
BATCHES = (1, 2, 4, 8)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
LAYOUTS = ("folder", "voc", "context", "coco-object", "voc-dev")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--model", metavar="FILE|NAME", help="ONNX model to time.  [default: bundled]")
@click.option("--checkpoint", type=FILE, metavar="FILE", help="The same model as model.pt, for the back ends of torch.")
@click.option("--engine", type=FILE, metavar="FILE", help="The same model as .engine, for the back end tensorrt.")
@click.option("--backend", "backends", multiple=True, metavar="NAME",
              help="Back end to time; may be repeated.  [default: all that can run here but torch-compile]")
@click.option("--photo", type=FILE, default=PHOTO, help="Picture to time.")
@click.option("--size", "sizes", default=SIZES, metavar="WxH,...", help="Frame sizes in pixels; --full takes more.")
@click.option("--labels", "counts", default="2,20,171,1200", metavar="N,N", help="Numbers of labels to compare.")
@click.option("--threads", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), metavar="N")
@click.option("--rounds", type=click.IntRange(3), default=10, metavar="N", help="Frames per contender.")
@click.option("--without-kernels", is_flag=True, help="The first back end also with NumPy in the kernels' place.")
@click.option("--live-size", is_flag=True, help="The first back end also at the smaller size of live pictures.")
@click.option("--full", is_flag=True, help="Also more sizes, batches and peers: minutes.")
@click.option("--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Photos with masks: mIoU of the same file beside its latency.")
@click.option("--masks-layout", type=click.Choice(LAYOUTS), default="folder", help="As for zeroseg eval --dataset.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Draw the stages.")
def main(full, plot, **options):
    """Time the stages of a frame on this machine: tables, then one JSON line.

    \b
    Example:
      python bench/latency.py --size 1920x1080 --threads 2
    """
    from zeroseg.cli import user_errors

    with user_errors():
        report = run(full=full, say=click.echo, **options)
        if plot:
            draw(report["frames"], plot)
            click.echo(f"wrote {plot}")
    click.echo(json.dumps(report))


def run(*, model, checkpoint, engine, backends, photo, sizes, counts, threads, rounds, without_kernels, live_size, full,
        masks, masks_layout, say) -> dict:
    """Everything the command prints, as plain values; say gets the tables as they are ready."""
    from PIL import Image

    from zeroseg.bench.stages import STAGES, time_frames

    report = {"zeroseg": zeroseg.__version__, "threads": threads, "rounds": rounds, **machine()}
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    say(f"{report['cpu']}, {report['gpu']}, {threads} threads; {versions}")
    segmenters, report["not_run"], report["memory_mib"] = open_all(
        {".onnx": model, ".pt": checkpoint, ".engine": engine}, backends, threads)
    for name, why in report["not_run"].items():
        say(f"{name}: not run, {why}")
    [labels, *rest] = [int(n) for n in counts.split(",")]
    sidecar = next(iter(segmenters.values())).sidecar
    for segmenter in segmenters.values():
        segmenter.set_labels(label_pack(sidecar, labels))
    report["frames"] = []
    say(f"\n{'frame':<11}{'back end':<22}" + "".join(f"{stage:>11}" for stage in STAGES) +
        f"{'all ms':>9}{'p90':>8}{'FPS':>7}{'network':>9}{'x first':>9}")
    framed, impls = dict(segmenters), {}
    if without_kernels:
        name = next(iter(segmenters))
        framed[f"{name}, NumPy"], impls[f"{name}, NumPy"] = segmenters[name], "reference"
    with tempfile.TemporaryDirectory() as folder:
        for size in (FULL_SIZES if full and sizes == SIZES else sizes).split(","):
            file = Path(folder) / f"{size}.jpg"
            Image.open(photo).convert("RGB").resize(parse_pair(size)).save(file, quality=90)
            if live_size:
                name = next(iter(segmenters))
                framed[f"{name}, live"] = as_live(segmenters[name], parse_pair(size))
            for name, row in time_frames(framed, file, rounds, impls=impls).items():
                report["frames"].append({"size": size, "backend": name, "labels": labels, **row})
                say(f"{size:<11}{name:<22}" + "".join(f"{row[stage]:>11.1f}" for stage in STAGES) +
                    f"{row['total_ms']:>9.1f}{row['p90_ms']:>8.1f}{1000 / row['total_ms']:>7.1f}"
                    f"{row['network_share']:>9.0%}{row['speedup']:>9.2f}")
        first = next(iter(segmenters.values()))
        if rest:
            file = Path(folder) / "640x480.jpg"
            Image.open(photo).convert("RGB").resize((640, 480)).save(file, quality=90)
            report["labels"] = time_labels(first, file, [labels, *rest], rounds, say)
    if full:
        report["batches"] = time_batches(segmenters, rounds, say)
        report["peers"] = time_peers(first, threads, rounds, say)
    if masks:
        from zeroseg.export.gate import mask_scorer

        score = mask_scorer(masks, masks_layout, sidecar)
        report["miou"] = {name: score(segmenter.runner) for name, segmenter in segmenters.items()}
        say("\n" + "\n".join(f"mIoU {miou:.2f}  {name}, {masks.name}" for name, miou in report["miou"].items()))
    return report


def as_live(segmenter, size: tuple[int, int]):
    """The segmenter as a live picture of size (W, H) is seen: zeroseg.image.live_short_side."""
    from dataclasses import replace

    from zeroseg.image import live_short_side
    from zeroseg.segmenter import Segmenter

    spec = segmenter.sidecar.input
    spec = replace(spec, short_side=live_short_side(size, spec.short_side))
    live = Segmenter(segmenter.runner, replace(segmenter.sidecar, input=spec))
    live.pack = segmenter.pack
    return live


def open_all(files: dict, wanted, threads: int):
    """(name -> Segmenter, name -> why not, name -> MiB that opening it took). ZerosegError if none can run.

    files: suffix -> the model in that form, or None; ".onnx" has a default.
    """
    from zeroseg.artifact import BACKENDS, read_artifact
    from zeroseg.bench.stages import memory_mib
    from zeroseg.errors import ZerosegError
    from zeroseg.runtime.base import open_runner
    from zeroseg.segmenter import Segmenter

    slow = () if wanted else ("torch-compile",)  # compiles for minutes: only when asked for
    segmenters, missing, memory = {}, {}, {}
    for name, suffixes in BACKENDS.items():
        source = next((file for suffix, file in files.items() if suffix in suffixes and file), None)
        if (wanted and name not in wanted) or name in slow or (source is None and ".onnx" not in suffixes):
            continue
        before = memory_mib()
        try:
            artifact = read_artifact(source, name)
            segmenters[name] = Segmenter(open_runner(artifact, threads), artifact.sidecar)
        except ZerosegError as error:
            missing[name] = str(error)
        else:
            memory[name] = round(memory_mib() - before) if before else None
    if not segmenters:
        raise ZerosegError(f"no back end can run: {'; '.join(missing.values()) or f'none is called {wanted}'}")
    return segmenters, missing, memory


def time_labels(segmenter, file: Path, counts: list[int], rounds: int, say) -> list[dict]:
    """One row per number of labels: total_ms and the median over rounds of its time over the first's."""
    from zeroseg.bench.stages import time_frames
    from zeroseg.segmenter import Segmenter

    contenders = {count: Segmenter(segmenter.runner, segmenter.sidecar).set_labels(label_pack(segmenter.sidecar, count))
                  for count in counts}
    rows = [{"labels": count, "total_ms": row["total_ms"], "network_ms": row["network"],
             "ratio_to_first": 1 / row["speedup"]} for count, row in time_frames(contenders, file, rounds).items()]
    say(f"\n{'labels':>7}{'all ms':>9}{'network':>9}{'x first':>9}   640x480, {segmenter.runner.backend}")
    for row in rows:
        say(f"{row['labels']:>7}{row['total_ms']:>9.1f}{row['network_ms']:>9.1f}{row['ratio_to_first']:>9.2f}")
    return rows


def time_batches(segmenters, rounds: int, say) -> list[dict]:
    """The network alone on squares: ms per image at batch 1 and at the best batch."""
    from zeroseg.export.race import race

    rows = []
    say(f"\n{'side':>5} {'back end':<22}{'batch 1 ms':>12}{'best batch':>12}{'ms/image':>10}")
    for side in SIDES:
        for name, segmenter in segmenters.items():
            vectors = segmenter.pack.vectors
            feeds = {b: {"image": np.zeros((b, 3, side, side), np.float32), "label_embeddings": vectors}
                     for b in BATCHES}
            laps = race({b: lambda f=feed, s=segmenter: s.runner.run(f) for b, feed in feeds.items()},
                        max(3, rounds // 3), 1)
            best = min(BATCHES, key=lambda b: laps[b].median_ms / b)
            rows.append({"side": side, "backend": name, "batch1_ms": laps[1].median_ms, "best_batch": best,
                         "best_ms_per_image": laps[best].median_ms / best})
            say(f"{side:>5} {name:<22}{laps[1].median_ms:>12.1f}{best:>12}{rows[-1]['best_ms_per_image']:>10.1f}")
    return rows


def time_peers(segmenter, threads: int, rounds: int, say) -> list[dict]:
    """Our network and other architectures with random weights, on the same squares, in turns."""
    from zeroseg.bench.peers import make_peers
    from zeroseg.export.race import race

    rows = []
    say(f"\n{'side':>5} {'network (batch 1; peers: latency only, random weights)':<56}{'ms':>9}")
    for side in SIDES:
        calls, missing = make_peers(side, threads)
        feed = {"image": np.zeros((1, 3, side, side), np.float32), "label_embeddings": segmenter.pack.vectors}
        ours = f"zeroseg {segmenter.sidecar.name}, {segmenter.runner.backend}"
        laps = race({ours: lambda f=feed: segmenter.runner.run(f), **calls}, max(3, rounds // 3), 1)
        for name, lap in laps.items():
            rows.append({"side": side, "network": name, "ms": lap.median_ms, "times_ours": 1 / lap.speedup})
            say(f"{side:>5} {name:<56}{lap.median_ms:>9.1f}")
        for name, why in missing.items():
            say(f"{side:>5} {name:<56} not run: {why}")
    return rows


def label_pack(sidecar, count: int):
    """So many labels with random directions."""
    from zeroseg.words import LabelPack

    vectors = np.random.default_rng(count).normal(size=(count, sidecar.embedding_dim)).astype(np.float32)
    return LabelPack(names=[f"label {i}" for i in range(count)], vectors=vectors, space=sidecar.embedding_space)


def machine() -> dict:
    """What the numbers depend on: processor, GPU, versions."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            cpu = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), cpu)
    except OSError:
        pass
    versions = {}
    for name in ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cpu": cpu, "cpus": os.cpu_count(), "gpu": gpu(), "versions": versions}


def gpu() -> str:
    """The GPUs' names as their driver gives them."""
    try:
        found = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True,
                               text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "no GPU"
    return found.stdout.strip().replace("\n", ", ") if found.returncode == 0 and found.stdout.strip() else "no GPU"


def draw(rows: list[dict], path: Path) -> None:
    """Stacked bars, a stage a colour, a row per size and back end."""
    from zeroseg.bench.stages import STAGES
    from zeroseg.errors import missing_extra

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "train", "--plot") from error
    figure = Figure(figsize=(9, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names, left = [f"{row['size']} {row['backend']}" for row in rows], np.zeros(len(rows))
    for stage in STAGES:
        widths = np.array([row[stage] for row in rows])
        axes.barh(names, widths, left=left, label=stage)
        left += widths
    axes.invert_yaxis()
    axes.set_xlabel("ms a frame (medians)")
    axes.legend()
    figure.savefig(path, dpi=120)


def parse_pair(text: str) -> tuple[int, int]:
    """"640x480" -> (640, 480)."""
    from zeroseg.errors import ZerosegError

    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ZerosegError(f"size: expected WIDTHxHEIGHT such as 640x480, got {text!r}")
    return int(width), int(height)


if __name__ == "__main__":
    main()
