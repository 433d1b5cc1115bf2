"""zeroseg search: find images of an indexed collection by words."""

from datetime import datetime
from pathlib import Path

import click

from zeroseg.commands.command import Command
from zeroseg.commands.threshold import threshold_option


class Day(click.ParamType):
    """A date or a date with time, ISO 8601."""

    name = "time"

    def convert(self, value, param, ctx):
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value).replace(tzinfo=None)
        except ValueError:
            self.fail(f"expected a date or time such as 2024-05-31 or 2024-05-31T18:00, got {value!r}", param, ctx)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("collection", metavar="COLLECTION")
@click.argument("words", metavar="WORDS")
@click.option(
    "-k", "count", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="Most images to show."
)
@threshold_option
@click.option(
    "--text",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Source of the label vectors: auto, words (the bundled table), open_clip, open_clip:FILE, or a labels.npz.",
)
# Which pictures
@click.option("--after", type=Day(), metavar="TIME", help="Taken at this time or later, such as 2024-05-31.")
@click.option("--before", type=Day(), metavar="TIME", help="Taken before this time.")
@click.option("--path", metavar="PATTERN", help='Path matches, such as "*/garden/*".')
@click.option(
    "--min-area", type=click.FloatRange(0, 1), default=0.0, metavar="0..1", help="Least share of the image covered."
)
@click.option(
    "--max-area", type=click.FloatRange(0, 1), default=1.0, metavar="0..1", help="Largest share of the image covered."
)
# What to write
@click.option(
    "--save",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="x.png: a contact sheet with the masks; x.jsonl: JSON Lines with COCO RLE; x.parquet. May be repeated.",
)
@click.option("--root", metavar="[OLD=]NEW", help="New folder of the photos, if it has moved.")
def search(collection, words, count, threshold, text, after, before, path, min_area, max_area, files, root):
    """Find WORDS in an indexed COLLECTION.

    Prints rank, score, share of the image covered, box (x,y width x height), path and time. "dog, cat" finds either,
    "dog+person" both in one image, "beach-person" a beach without a person. No network runs. The scores are those of
    zeroseg-infer.

    \b
    Example:
      zeroseg search collection "red bus" -k 50 --save buses.png
      zeroseg search cameras "person+dog" --after 2024-05-31 --save found.jsonl
    """
    from zeroseg.commands.index_run import storage_options
    from zeroseg.commands.infer_run import approximate_words
    from zeroseg.search.collection import Collection
    from zeroseg.search.query import Filters, parse_query
    from zeroseg.search.results import check_suffix, line, save
    from zeroseg.segment.labels import label_pack

    for file in files:
        check_suffix(file)
    opened = Collection.open(collection, root, storage_options())
    query = parse_query(words)
    pack = label_pack(query.words, opened.sidecar, text)
    for note in approximate_words(pack):
        click.echo(note)
    hits = opened.ranked(query, pack, count, threshold, Filters(after, before, path, min_area, max_area))
    for rank, hit in enumerate(hits, 1):
        click.echo(line(rank, hit))
    if not hits:
        limit = opened.sidecar.threshold if threshold is None else threshold
        click.echo(f"nothing in {len(opened):,} images scored {limit:.3f} or more (lower --threshold to see more)")
    for file in files:
        if hits:
            save(file, hits, lambda note: click.echo(note, err=True))
            click.echo(f"wrote {file}")
