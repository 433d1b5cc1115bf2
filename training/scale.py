"""`python training/scale.py`: estimate the cost of the paper's recipe for any number of photos from measurements here.

These are measured here on one thread: one training step of a student per photo, the teacher's views per photo,
decoding, and the bytes of a photo as a file, in a tar shard and in the cache. FLOPs are counted operator by operator (a
multiply-add counts as two). Everything else is a product of these and is printed as such:

    student     photos x epochs x seconds per photo
    teacher     photos x views x seconds per view, once
    processor   FLOPs / (peak x utilisation), for a peak and a utilisation that YOU give; not measured

Times are CPU seconds of this process. Other programs on the machine change them little, so rates are per core.
"""

import io
import json
import math
import os
import sys
import time
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.commands.command import Command
from zeroseg.config import PRESETS
from zeroseg.errors import ZerosegError

ROW_BYTES = 5  # of a cache row: one byte of status, four of checksum
READ_PHOTOS = 64  # decoded for their rate


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("photos", type=click.Path(file_okay=False), metavar="FOLDER")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="base", help="The student.")
@click.option("--teacher", default="ViT-L-14", metavar="ARCH", help="open_clip architecture; random weights do.")
@click.option("--micro-batch", type=click.IntRange(1), default=4, metavar="PHOTOS", help="Photos per measured step.")
@click.option(
    "--count",
    "counts",
    type=click.FloatRange(1),
    multiple=True,
    metavar="PHOTOS",
    help="Numbers of photos to plan for, one for each of --epochs.  [default: 1.3e6 and 1e8]",
)
@click.option("--epochs", type=click.FloatRange(0), multiple=True, metavar="N", help="[default: 80 and 1]")
@click.option(
    "--peak",
    type=click.FloatRange(0, min_open=True),
    metavar="TFLOP/S",
    help="Assumed peak of one accelerator; adds a column.",
)
@click.option(
    "--utilisation",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.4,
    metavar="SHARE",
    help="Assumed share of the peak that is used.",
)
def main(photos, preset, teacher, micro_batch, counts, epochs, peak, utilisation):
    """Measure one step, one view and one photo; print hours, storage and traffic for many. FOLDER has the photos.

    \b
    Example:
      python training/scale.py ~/photos --preset base --peak 100 --utilisation 0.4
    """
    if len(counts) != len(epochs):
        raise ZerosegError(f"--count and --epochs: expected as many of both, got {len(counts)} and {len(epochs)}")
    try:
        import torch
    except ModuleNotFoundError as error:
        from zeroseg.errors import missing_extra

        raise missing_extra(error.name, "train", "Measuring") from error
    torch.set_num_threads(1)
    unit = measure_photos(os.path.expanduser(photos)) | measure_student(preset, micro_batch)
    unit |= measure_teacher(teacher)
    plans = list(zip(counts, epochs, strict=True)) or [(1.3e6, 80.0), (1e8, 1.0)]
    rows = [project(unit, *plan, peak=peak, utilisation=utilisation) for plan in plans]
    for name, value in unit.items():
        click.echo(f"{name:<24}{value:>16,.6g}" if isinstance(value, float | int) else f"{name:<24}{value:>16}")
    for row in rows:
        click.echo("\n" + "\n".join(f"{name:<34}{value:>16,.6g}" for name, value in row.items()))
    click.echo(json.dumps({"measured": unit, "projected": rows}))


def measure_photos(folder: str) -> dict:
    """Bytes of a photo as a file and in an uncompressed tar, seconds to decode it and cut its centre or its views."""
    import tarfile

    from zeroseg.training.photos import centre_square, crop_array, find_photos
    from zeroseg.training.recipes import ViewConfig
    from zeroseg.training.views import cut_views

    found = find_photos(folder, READ_PHOTOS)
    buffer, file_bytes = io.BytesIO(), 0
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in found.names:
            path = found.root / name
            file_bytes += path.stat().st_size
            tar.add(path, f"{name.replace('/', '_')}")
        tar_bytes = tar.offset
    images = [found.read(index) for index in range(len(found))]

    def decode():
        for index in range(len(found)):
            image = found.read(index)
            crop_array(image, centre_square(image.size), (224, 224))

    def cut():
        for image in images[:4]:
            cut_views(image, ViewConfig().grids, 224)

    return {
        "photo_bytes": file_bytes / len(found),
        "shard_bytes": tar_bytes / len(found),
        "photo_megapixels": sum(math.prod(image.size) for image in images) / len(found) / 1e6,
        "decode_s": _cpu_seconds(decode) / len(found),
        "cut_views_s": _cpu_seconds(cut) / len(images[:4]),
    }


def measure_student(preset: str, micro_batch: int) -> dict:
    """Trained weights, FLOPs and seconds per photo of a step of the paper's losses, bytes of a photo's cached views."""
    import torch

    from zeroseg.model.zeroseg import ZeroSeg
    from zeroseg.training.batches import Batch
    from zeroseg.training.loop import build_optimizer
    from zeroseg.training.objective import Objective
    from zeroseg.training.recipes import RECIPES
    from zeroseg.training.views import grid_boxes

    config = RECIPES["paper"].set("preset", preset)
    if not config.model_config().mask_ratio:
        # nothing to reconstruct, and the preset's stem stays as it is
        config = config.set("losses.reconstruction", 0.0)
    student = ZeroSeg(config.model_config())
    if student.stem is not None:
        student.stem.requires_grad_(False)
    objective, optimizer = Objective(student, config).train(), build_optimizer(student, config)
    views, dim = len(grid_boxes(config.views.grids)), student.config.embedding_dim
    size, patch = config.crops.sizes[0], student.config.patch_size
    grid = (size[0] // patch, size[1] // patch)
    batch = Batch(torch.randn(micro_batch, 3, *size), None, torch.randn(micro_batch, views, dim), None, grid)
    noise = torch.rand(micro_batch, math.prod(grid)) if student.config.mask_ratio else None

    def step():
        objective(batch, noise)[0].backward()

    flops = count_flops(step) / micro_batch
    update_s = _cpu_seconds(optimizer.step)
    return {
        "preset": preset,
        "weights": sum(p.numel() for p in student.parameters() if p.requires_grad),
        "step_flops": flops,
        "step_s": _cpu_seconds(step) / micro_batch,
        "update_s": update_s,
        "batch": config.batch,
        "views": views,
        "views_bytes": 2 * views * dim + ROW_BYTES,
    }


def measure_teacher(architecture: str) -> dict:
    """FLOPs and seconds per view of an open_clip image tower with random weights."""
    import open_clip
    import torch

    if architecture not in open_clip.list_models():
        raise ZerosegError(f"--teacher: open_clip has no architecture {architecture!r}, see open_clip.list_models()")
    model = open_clip.create_model(architecture, pretrained=None)
    tower = model.visual.eval()
    image = torch.randn(1, 3, *(tower.image_size if isinstance(tower.image_size, tuple) else (tower.image_size,) * 2))

    def view():
        with torch.no_grad():
            tower(image)

    return {"teacher": architecture, "view_flops": count_flops(view), "view_s": _cpu_seconds(view)}


def project(unit: dict, photos: float, epochs: float, peak: float | None = None, utilisation: float = 0.4) -> dict:
    """Hours, bytes and traffic for `photos` seen `epochs` times; core-hours from the measured seconds.

    peak, in TFLOP/s, and utilisation give accelerator-hours, and the traffic with which ONE such accelerator is fed.
    """
    seen, views = photos * epochs, photos * unit["views"]
    step_s = unit["step_s"] + unit["update_s"] / unit["batch"]
    row = {
        "photos": photos,
        "epochs": epochs,
        "steps": seen / unit["batch"],
        "student core-hours": seen * step_s / 3600,
        "teacher core-hours": views * unit["view_s"] / 3600,
        "decoding core-hours": (seen * unit["decode_s"] + photos * (unit["decode_s"] + unit["cut_views_s"])) / 3600,
        "student EFLOP": seen * unit["step_flops"] / 1e18,
        "teacher EFLOP": views * unit["view_flops"] / 1e18,
        "photos TB": photos * unit["photo_bytes"] / 1e12,
        "shards TB": photos * unit["shard_bytes"] / 1e12,
        "cached views TB": photos * unit["views_bytes"] / 1e12,
        "read in training TB": seen * (unit["shard_bytes"] + unit["views_bytes"]) / 1e12,
        "gradients per process and step MB": 2 * 4 * unit["weights"] / 1e6,
    }
    if peak:
        rate = 1e12 * peak * utilisation
        per_second = rate / unit["step_flops"]
        row |= {
            "assumed: student hours": seen / per_second / 3600,
            "assumed: teacher hours": views * unit["view_flops"] / rate / 3600,
            "assumed: photos/s": per_second,
            "assumed: read MB/s": per_second * (unit["shard_bytes"] + unit["views_bytes"]) / 1e6,
            "assumed: decoding cores": per_second * unit["decode_s"],
        }
    return row


def count_flops(call) -> int:
    """Floating-point operations of call()'s matrix products and convolutions, forward and backward."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # the counter knows neither CPUs' fused attention nor MultiheadAttention's fast path: written out, both are products
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


def _cpu_seconds(call, repeats: int = 3) -> float:
    """Median processor time of call(), after one that is not counted."""
    import statistics

    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
