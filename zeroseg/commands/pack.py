"""zeroseg pack: photos into tar files for training and labelling at scale."""

from pathlib import Path

import click

from zeroseg.collection.pack import PHOTOS_PER_SHARD
from zeroseg.commands.command import Command


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("photos", nargs=-1, required=True, metavar="PHOTOS...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the shards; an unfinished one is resumed.",
)
@click.option(
    "--per-shard", type=click.IntRange(1), default=PHOTOS_PER_SHARD, metavar="PHOTOS", help="Photos in a shard."
)
@click.option(
    "--check/--no-check",
    default=True,
    help="Decode every photo and leave out those that cannot be decoded, or pack files unchecked.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Number of photos to read and decode at a time.  [default: CPU threads]",
    show_default=False,
)
def pack(photos, out, per_shard, check, threads):
    """Pack PHOTOS (folders, images and tar files) into shards: uncompressed tar files, photos-000000.tar and so on.

    The files' bytes are copied, not encoded again. DIR/index.json lists the shards, DIR/bad.txt the photos that
    were left out, with the reason. Ctrl-C stops the command; the same command resumes at the first incomplete shard.

    \b
    Example:
      zeroseg pack ~/photos -o shards
      zeroseg annotate shards -o found --labels words.txt
    """
    import os
    import sys
    import time

    from tqdm import tqdm

    from zeroseg.collection.pack import begin
    from zeroseg.collection.pack import pack as write_shards
    from zeroseg.collection.plan import open_plan
    from zeroseg.errors import ZerosegError
    from zeroseg.files import make_folder
    from zeroseg.kernels._threads import available_threads

    for source in photos:
        if not os.path.exists(source):
            raise ZerosegError(f"{source}: no such file or folder")
    make_folder(out)
    began = time.perf_counter()
    begin(out, {"photos_per_shard": per_shard, "check": check})
    bars = {
        "unit": "photo",
        "dynamic_ncols": True,
        "disable": None if sys.stderr.isatty() else False,
        "mininterval": 0.2 if sys.stderr.isatty() else 30,
    }
    try:
        with tqdm(desc="listing photos", leave=False, **bars) as bar:
            plan = open_plan(out, photos, per_shard, on_photo=bar.update)
        with tqdm(desc="packing", total=plan.photos, **bars) as bar:
            packed = write_shards(plan, check, threads or available_threads(), bar.update)
    except KeyboardInterrupt:
        click.echo("stopped; complete shards are kept, and the same command resumes", err=True)
        raise SystemExit(130) from None
    seconds = time.perf_counter() - began
    click.echo(
        f"{packed.photos} photos in {packed.shards} shards, {packed.bytes / 1e6:.1f} MB, in {out}; "
        f"{plan.photos / seconds:.0f} photos/s"
    )
    if packed.bad:
        click.echo(f"{packed.bad} bad photos were left out: {out / 'bad.txt'}", err=True)
