"""Measure whether words outside the vocabulary get the right nearest names: top-1 and top-3 on two lists."""

import json
import sys
from collections import defaultdict
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.words import embed_labels
from zeroseg.words.spelling import without_brackets

NOUNS = Path(__file__).resolve().parent / "everyday_nouns.tsv"
PHRASES = NOUNS.with_name("nouns_and_phrases.tsv")
HALVES = {"development": slice(0, None, 2), "test": slice(1, None, 2)}


def measure(path: Path = NOUNS, half: str | None = None) -> dict:
    """{"nouns", "top1", "top3"} in percent, "groups" of the same, and "missed": noun -> nearest known name.

    half: "development" for the first, third, ... of the lines only, "test" for the others.
    """
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    lines = lines[HALVES[half]] if half else lines
    nearest = embed_labels([noun for _, noun, _ in lines]).nearest
    groups, missed = defaultdict(list), {}
    for (group, noun, right), near in zip(lines, nearest):
        wanted = set(right.lower().split("|"))
        hits = [name.lower() in wanted or without_brackets(name.lower()) in wanted for name in near]
        groups[group].append((hits[0], any(hits)))
        if not hits[0]:
            missed[noun] = near[0]
    share = lambda rows, i: 100 * sum(row[i] for row in rows) / len(rows)  # noqa: E731
    every = [row for rows in groups.values() for row in rows]
    return {
        "nouns": len(every),
        "top1": share(every, 0),
        "top3": share(every, 1),
        "missed": missed,
        "groups": {group: [len(rows), share(rows, 0), share(rows, 1)] for group, rows in groups.items()},
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--nouns",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    show_default=f"{NOUNS.name}, then both halves of {PHRASES.name}",
    help="File with lines of group, noun, right names joined by |.",
)
@click.option("--half", type=click.Choice(list(HALVES)), help="Only the odd or the even lines of --nouns.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="JSON", help="Write the numbers.")
def main(nouns, half, out):
    """Top-1 and top-3 of the bundled words table: a table per list, then one JSON line.

    \b
    Examples:
      python bench/words.py --out bench/results/words.json
      python bench/words.py --nouns bench/nouns_and_phrases.tsv --half development
    """
    if half and nouns is None:
        raise click.UsageError("--half: expected --nouns beside it")
    asked = [(nouns, half)] if nouns else [(NOUNS, None), *((PHRASES, half) for half in HALVES)]
    report = {}
    for path, half in asked:
        title = f"{path.stem}, {half}" if half else path.stem
        result = measure(path, half)
        click.echo(f"{title:<48}{'nouns':>6}{'top-1 %':>9}{'top-3 %':>9}")
        for group, (count, top1, top3) in result["groups"].items():
            click.echo(f"  {group:<46}{count:>6}{top1:>9.1f}{top3:>9.1f}")
        click.echo(f"  {'all':<46}{result['nouns']:>6}{result['top1']:>9.1f}{result['top3']:>9.1f}")
        report[title] = {key: result[key] for key in ("nouns", "top1", "top3", "groups")}
    if out is not None:
        written = {**report, "command": f"python bench/words.py --out {out}"}
        out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(report))


if __name__ == "__main__":
    main()
