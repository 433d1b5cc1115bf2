"""zeroseg annotate: label a whole collection of photos into one table."""

from pathlib import Path

import click

from zeroseg.commands.backend import backend_option
from zeroseg.commands.command import Command
from zeroseg.commands.threshold import threshold_option
from zeroseg.formats.kinds import FORMATS


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the tables; a folder that has this job is resumed.",
)
# What to look for
@click.option("--labels", metavar="WORDS", help="Text file with one label per line, list with commas, or labels.npz.")
@click.option(
    "--text",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Source of the label vectors: auto, words (the bundled table), open_clip or open_clip:FILE.",
)
@threshold_option
# What to write
@click.option("--masks", is_flag=True, help="Also write a label-map PNG for each photo.")
@click.option(
    "--to",
    type=click.Choice(FORMATS),
    help="At the end, also write a dataset to DIR/FORMAT; zeroseg convert has more options.",
)
@click.option(
    "--summary",
    is_flag=True,
    help="At the end, print counts and areas per label and write contact.png; without PHOTOS, only do this.",
)
# How to run
@click.option("--model", metavar="FILE|NAME", help="Model file (.onnx, .pt) or a bundled name.  [default: bundled]")
@backend_option
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="Number of processes, each with its own model.  [default: CPU threads / --threads; 1 on a GPU]",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="CPU threads per process.  [default: 1, which gives the most photos per second]",
)
@click.option(
    "--part-size",
    type=click.IntRange(1),
    metavar="PHOTOS",
    help="Photos per table; a table is written completely or not at all.  [default: up to 256]",
)
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster (host:port or auto) instead.")
def annotate(photos, **options):
    """Label every photo in PHOTOS once. PHOTOS are any number of folders, images and tar files (shards).

    Writes DIR/parts/*.parquet with one row per photo and label: path, height, width, label, score, area, rle (COCO),
    error. Ctrl-C stops the job; the same command resumes it. DIR/bad.txt lists photos that cannot be read.

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
        raise click.UsageError("--processes: only for one machine; with --ray the cluster's CPUs decide")

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)  # batch systems send it; treat it like Ctrl-C
    try:
        stopped = run_annotate(list(photos), AnnotateOptions(**options))
    finally:
        signal.signal(signal.SIGTERM, before)
    raise SystemExit(130 if stopped else 0)
