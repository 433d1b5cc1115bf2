"""Search: how good (per class, on folders with masks), and how fast (by the number of images; on the page).

python bench/search.py quality voc-dev coco-dev
python bench/search.py speed photos/ --images 10000,100000 --folder /big/disk
python bench/search.py page collection
"""

import json
import multiprocessing
import sys
from pathlib import Path

import click

from zeroseg.bench.machine import machine
from zeroseg.bench.search_page import measure_page
from zeroseg.bench.search_quality import measure_quality
from zeroseg.bench.search_speed import collection_of, measure_speed, real_segments
from zeroseg.commands.command import Command
from zeroseg.commit import current_commit
from zeroseg.evaluation.folders import plain_folder
from zeroseg.evaluation.standard_sets import voc_dev


@click.group()
def main():
    """How good and how fast a search is."""


@main.command(cls=Command)
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", metavar="FILE|NAME", help="[default: bundled]")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures.")
def quality(folders, model, out):
    """Average precision of images and IoU of the masks shown, per class.

    FOLDERS: images, masks and a class list (docs/evaluation.md); one with a list.txt has VOC's ids, as voc-dev.

    \b
    Example:
      python bench/search.py quality voc-dev coco-dev --json search-quality.json
    """
    rows = {}
    for folder in folders:
        dataset = voc_dev(folder) if (folder / "list.txt").is_file() else plain_folder(folder)
        click.echo(f"\n{dataset.name}: {len(dataset)} images")
        rows[dataset.name] = measure_quality(dataset, model, click.echo)
    _write(out, {"quality": rows})


@main.command(cls=Command)
@click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--images", default="10000,100000", show_default=True, help="Sizes of the synthetic collections.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default="search-bench", show_default=True, help="Where they go."
)
@click.option("--words", default=50, show_default=True, help="How many of the known words are searched for.")
@click.option("--model", metavar="FILE|NAME", help="[default: bundled]")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw them (.png).")
def speed(photos, images, folder, words, model, out, plot):
    """Time of a search and memory, by the number of images. PHOTOS: what the synthetic segments are drawn like.

    The collections stay in --folder, and the next run uses them again. A million images take 8 GB, twice that while
    they are made, and 2.4 GB more for the search.

    \b
    Example:
      python bench/search.py speed photos/ --images 10000,100000 --json search-speed.json --plot search-speed.png
    """
    from zeroseg.bench.latency_plot import check_plot
    from zeroseg.bench.search_plot import draw
    from zeroseg.words.table import load_table

    if plot:
        check_plot(plot)
    names = load_table().names
    asked = [names[i * len(names) // words] for i in range(words)]
    sidecar, real = real_segments(list(photos), model)
    rows = []
    click.echo(f"{'images':>10}{'open s':>8}{'p50 ms':>8}{'p95 ms':>8}{'max ms':>8}{'MiB':>8}{'rank':>6}")
    for count in map(int, images.split(",")):
        collection_of(folder / str(count), sidecar, real, count)
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # a fresh process: for its memory
            row = pool.apply(measure_speed, (folder / str(count), asked))
        rows.append(row)
        click.echo(
            f"{row['images']:>10,}{row['open_s']:>8.1f}{row['p50_ms']:>8.1f}{row['p95_ms']:>8.1f}{row['max_ms']:>8.1f}"
            f"{row['memory_mib']:>8.0f}{row['rank']:>6}"
        )
    _write(out, {"speed": rows, "words": asked})
    if plot:
        draw(rows, plot)


@main.command(cls=Command)
@click.argument("collection", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--words", default="dog,cat,horse,car,person,building", show_default=True, help="Asked one by one.")
@click.option("--picture", type=click.Path(path_type=Path), help="Save a screenshot after the last word (.jpg).")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures.")
def page(collection, words, picture, out):
    """Time from Enter to the last picture in view, on the search page in Chromium. Needs playwright.

    \b
    Example:
      python bench/search.py page collection --words "dog,cat"
    """
    row = measure_page(collection, [word.strip() for word in words.split(",")], picture)
    click.echo(
        f"{row['images']:,} images, {row['words']} words: {row['found_ms']:.0f} ms until found, {row['shown_ms']:.0f} "
        f"ms (p95 {row['shown_p95_ms']:.0f}) until the {row['pictures_in_view']:.0f} pictures in view are drawn"
    )
    _write(out, {"page": row})


def _write(out: Path | None, figures: dict) -> None:
    if out is not None:
        document = {
            "machine": machine(),
            "commit": current_commit("zeroseg", "kernels", "bench"),
            "command": " ".join(["python bench/search.py", *(Path(part).name for part in sys.argv[1:])]),
            **figures,
        }
        text = json.dumps(document, indent=1).replace("NaN", "null")  # JSON knows none: no IoU where nothing was shown
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
