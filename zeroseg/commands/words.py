"""zeroseg words: look words up, and keep their vectors in a label pack."""

from pathlib import Path

import click

from zeroseg.commands.command import Command

# how a label was read (zeroseg.words.explain) -> its mark and what is said of it
_READ_AS = {
    "name": (" ", "known"),
    "noun": ("~", "approximate"),
    "phrase": ("~", "approximate"),
    "guess": ("?", "no noun"),
}


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="WORDS")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="NPZ", help="Write a label pack.")
@click.option(
    "--text",
    default="auto",
    show_default=True,
    metavar="SOURCE",
    help="auto: the bundled table; open_clip or open_clip:FILE: CLIP's own text tower.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="open_clip:ARCH/TAG, ARCH/FILE or radio:VERSION: vectors from that model's text tower, for that model.",
)
def words(words, out, text, model):
    """Show how WORDS are understood: a list with commas, or a text file with one word a line (" #" begins a comment).

    Each line ends with the nearest names that the model knows, and their centred cosine. A word that is not one of them
    gets an approximate vector and the mark ~. A string that is not an English noun gets a guess and the mark ?.

    \b
    Example:
      zeroseg words "cat,tabby,fire truck" -o labels.npz
      zeroseg words words.txt --model open_clip:ViT-B-16/openai -o labels.npz
    """
    from zeroseg.words import embed_labels

    if out is not None and out.suffix not in ("", ".npz"):
        raise click.BadParameter(f"{out}: the name of a label pack must end in .npz", param_hint="--out")
    labels = read_words(words)
    if model is not None:
        pack = model_pack(labels, model)
        click.echo(f"{len(pack)} labels of {pack.vectors.shape[1]} numbers in the space {pack.space}")
        if out is not None:
            click.echo(f"wrote {pack.save(out)}: {len(pack)} labels")
        return
    pack = embed_labels(labels, text=text)
    for line in table_lines(pack, text):
        click.echo(line)
    if out is not None:
        click.echo(f"wrote {pack.save(out)}: {len(pack)} labels")


def model_pack(labels: list[str], model: str):
    """A LabelPack by the text tower of an open_clip model."""
    from zeroseg.dense.spec import parse_spec
    from zeroseg.errors import missing_extra
    from zeroseg.words import LabelPack

    spec = parse_spec(model)
    try:
        from zeroseg.dense.text import label_vectors
        from zeroseg.dense.weights import space_of

        return LabelPack(labels, label_vectors(spec, labels), space_of(spec.arch, spec.weights))
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "train", "--model open_clip") from error


def read_words(words: str) -> list[str]:
    """The words of a comma list or, where WORDS is @FILE, FILE.txt or any file that is there, of its lines."""
    from zeroseg.files import read_text
    from zeroseg.words import split_words, words_of_lines

    if not (words.startswith("@") or words.endswith(".txt") or _is_file(words)):
        return split_words(words)
    path = words.removeprefix("@")
    try:
        return words_of_lines(read_text(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "expected UTF-8 text with one word per line"
        raise click.BadParameter(f"{path[:200]}: {reason}", param_hint="WORDS") from None


def table_lines(pack, text):
    """The lines to print, one per label."""
    from zeroseg.words import centre, embed_labels, explain

    labels = pack.names
    names = sorted({name for row in pack.nearest for name in row})
    of_names = dict(zip(names, _directions(embed_labels(names).vectors, centre())))
    readings = [None] * len(labels) if text.startswith("open_clip") else explain(labels)
    width = max(len(label) for label in labels)
    for label, reading, direction, near in zip(
        labels, readings, _directions(pack.vectors, centre()), pack.nearest, strict=True
    ):
        mark, said = (" ", "text tower") if reading is None else _READ_AS[reading.kind]
        shown = ", ".join(f"{name} {float(direction @ of_names[name]):.2f}" for name in near)
        if reading is not None and reading.kind == "guess" and not reading.used:
            shown += "   (unknown: it will hardly ever match)"
        elif reading is not None and reading.kind in ("phrase", "guess"):
            shown += f"   (understood as {reading.used})"
        yield f"{mark} {label:<{width}}  {said:<11}  {shown}"


def _is_file(words: str) -> bool:
    try:
        return Path(words).is_file()
    except OSError:  # a long list is no file name
        return False


def _directions(vectors, centre):
    import numpy as np

    away = vectors - centre
    return away / np.linalg.norm(away, axis=1, keepdims=True)
