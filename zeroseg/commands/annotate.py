"""zeroseg annotate: label a whole collection of photos into one table."""

from pathlib import Path

import click

from zeroseg.commands.command import Command
from zeroseg.commands.threshold import threshold_option
from zeroseg.runtime.backends import BACKENDS


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the tables; a folder with this job in it is gone on with.",
)
# What to look for
@click.option("--labels", metavar="WORDS", help="Text file with one label a line, comma list, or labels.npz.")
@click.option(
    "--text",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="What turns words into vectors: auto, words (the bundled table), open_clip or open_clip:FILE.",
)
@threshold_option
# What to write
@click.option("--masks", is_flag=True, help="Also one label-map PNG a photo.")
@click.option(
    "--summary",
    is_flag=True,
    help="In the end print counts and areas per label and write contact.png; without PHOTOS: of what is there.",
)
# How to run
@click.option("--model", metavar="FILE|NAME", help="Model file (.onnx, .pt) or a bundled name.  [default: bundled]")
@click.option(
    "--backend",
    type=click.Choice(["auto", *BACKENDS]),
    default="auto",
    show_default=True,
    metavar="NAME",
    help=f"What runs the network: auto, {', '.join(BACKENDS)}.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="Processes, each with its own model.  [default: CPU threads / --threads, 1 on a GPU]",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="CPU threads of each process.  [default: 1, which labels most photos a second]",
)
@click.option(
    "--part-size",
    type=click.IntRange(1),
    metavar="PHOTOS",
    help="Photos in a table, which is done whole or not at all.  [default: up to 256]",
)
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster (host:port or auto) instead.")
def annotate(photos, **options):
    """Label every photo of PHOTOS once: folders, pictures and tar files (shards), of any number.

    Writes DIR/parts/*.parquet, one row a photo and label: path, height, width, label, score, area, rle (COCO), error.
    Ctrl-C stops it; the same command goes on. Photos that cannot be read are listed in DIR/bad.txt.

    \b
    Example:
      zeroseg annotate ~/photos -o found --labels words.txt --summary
      zeroseg annotate shards/ -o found --labels "cat,dog" --masks --processes 4
      zeroseg annotate /shared/photos -o /shared/found --labels words.txt --ray head:6379
    """
    import signal

    from zeroseg.commands.annotate_run import AnnotateOptions, run_annotate

    if not photos and not options["summary"]:
        raise click.UsageError("Missing argument 'PHOTOS...': a folder, picture or tar file")
    if photos and not options["labels"]:
        raise click.UsageError("Missing option '--labels': what to look for, as in --labels words.txt")
    if options["ray"] and options["processes"]:
        raise click.UsageError("--processes: of one machine; with --ray the cluster's CPUs decide")

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)  # what a batch system sends: as resumable as Ctrl-C
    try:
        stopped = run_annotate(list(photos), AnnotateOptions(**options))
    finally:
        signal.signal(signal.SIGTERM, before)
    raise SystemExit(130 if stopped else 0)
