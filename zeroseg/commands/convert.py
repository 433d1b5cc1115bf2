"""zeroseg convert: write results as a dataset for other programs."""

from pathlib import Path

import click

from zeroseg.commands.command import Command
from zeroseg.formats.kinds import FORMATS


@click.command(name="convert", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("results", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
@click.option("--to", "kind", required=True, type=click.Choice(FORMATS), help="The format.")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the dataset; it must not exist, or must be empty.",
)
@click.option(
    "--shapes",
    type=click.Choice(["polygons", "masks"]),
    help="Polygons can be edited, masks are exact.  [default: polygons; voc: masks]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    metavar="PX",
    help="How far a removed corner may lie from the simplified polygon; 0 keeps the exact outline.  [default: 1]",
)
@click.option(
    "--val",
    type=click.FloatRange(0, 1),
    metavar="0..1",
    help="Share of the photos kept for validation (yolo, coco, voc).  [default: yolo 0.1, others 0]",
)
@click.option("--photos/--no-photos", default=True, show_default=True, help="Copy the photos into the dataset.")
def convert(results, kind, out, shapes, tolerance, val, photos):
    """Turn the results of zeroseg-infer or zeroseg annotate into a dataset.

    RESULTS are folders of zeroseg annotate, or folders or JSON files of zeroseg-infer (--save json). All must have the
    same label list, which fixes the classes' ids and order. Photos with an EXIF orientation are written upright.

    \b
    Example:
      zeroseg convert found --to yolo -o training-set
      zeroseg convert zeroseg-out --to coco --shapes masks -o coco-set
    """
    import sys

    from tqdm import tqdm

    from zeroseg.formats.convert import convert as run
    from zeroseg.formats.dataset import DatasetOptions
    from zeroseg.formats.polygons import TOLERANCE_PX

    options = DatasetOptions(shapes, TOLERANCE_PX if tolerance is None else tolerance, photos, val)
    with tqdm(unit="photo", disable=None, leave=False, file=sys.stderr) as bar:

        def on_photo(total):
            bar.total = total
            bar.update()

        done, bad = run(results, kind, out, options, on_photo)
    left_out = f"; left out {bad} that could not be labelled" if bad else ""
    click.echo(f"{done} photos as {kind}: {out}{left_out}")
