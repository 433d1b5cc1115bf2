"""zeroseg words: look words up, and keep their vectors in a label pack."""

from pathlib import Path

import click

from zeroseg.cli import Command


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="WORDS")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="NPZ", help="Write a label pack.")
@click.option("--text", default="auto", show_default=True, metavar="SOURCE",
              help="auto: the bundled table; open_clip or open_clip:FILE: the real text tower.")
def words(words, out, text):
    """Show how WORDS are understood: a comma list, or a text file with one word a line.

    A word that is not among the known names gets a place near them and is marked with ~.

    \b
    Example:
      zeroseg words "cat,tabby,fire truck" -o labels.npz
    """
    import numpy as np

    from zeroseg.words import LabelPack, centre, embed_labels

    path = Path(words)
    if path.suffix == ".txt" or path.is_file():
        if not path.is_file():
            raise click.BadParameter(f"{path}: no such file", param_hint="WORDS")
        labels = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        labels = [word.strip() for word in words.split(",") if word.strip()]
    vectors, known, nearest = embed_labels(labels, text=text)
    names = sorted({name for row in nearest for name in row})
    rows = dict(zip(names, _directions(embed_labels(names).vectors, centre()))) if names else {}
    width = max(len(label) for label in labels)
    for label, direction, sure, near in zip(labels, _directions(vectors, centre()), known, nearest):
        shown = ", ".join(f"{name} {float(np.dot(direction, rows[name])):.2f}" for name in near)
        click.echo(f"{' ' if sure else '~'} {label:<{width}}  {shown}")
    if out is not None:
        written = LabelPack(names=labels, vectors=vectors, known=known, nearest=nearest).save(out)
        click.echo(f"wrote {written}: {len(labels)} labels")


def _directions(vectors, centre):
    import numpy as np

    away = vectors - centre
    return away / np.linalg.norm(away, axis=1, keepdims=True)
