"""Text vectors of labels, in the bundled model's embedding space."""

from collections.abc import Iterable

import numpy as np

from zeroseg.words.lookup import Reading, read_label
from zeroseg.words.pack import LabelPack
from zeroseg.words.spelling import LABELS_MAX, clean
from zeroseg.words.table import load_table


def embed_labels(labels: Iterable[str], text: str = "auto") -> LabelPack:
    """Text vectors for words and phrases, in the space of CLIP ViT-B/32, row for row.

    text  "auto" and "words": the bundled table, with the same vectors on every machine. The 1,613 known names and their
          synonyms, in any case, number or common spelling, are exact (kind "name"). Other nouns and phrases are
          estimated, mainly from WordNet ("noun", "phrase"). A string that is not a word is guessed from its spelling
          ("guess").
          "open_clip" or "open_clip:FILE": CLIP's own text tower, which must be on this machine (kind "name").
    nearest has the known names with the highest centred cosine, nearest first.

    Raises ValueError for no labels, for more than 10,000, or for a label that is not text; UnavailableError if the
    tower is missing.
    """
    labels = as_list(labels)
    table = load_table()
    tower, _, weights = text.partition(":") if isinstance(text, str) else (text, "", "")
    if tower == "open_clip":
        from zeroseg.words.text_tower import tower_vectors

        vectors = tower_vectors([clean_prompt(label, i) for i, label in enumerate(labels)], weights or None)
        if vectors.shape[1] != table.vectors.shape[1]:
            raise ValueError(
                f"text: expected a tower with {table.vectors.shape[1]} numbers per label, got "
                f"{vectors.shape[1]}; the bundled model uses CLIP ViT-B/32"
            )
        directions, kind = vectors - table.centre, ["name"] * len(labels)
    elif text in ("auto", "words"):
        readings = explain(labels)
        directions = np.stack([reading.direction for reading in readings])
        vectors = table.to_vectors(directions)
        kind = [reading.kind for reading in readings]
        rows = [reading.row for reading in readings if reading.row is not None]
        vectors[[one == "name" for one in kind]] = table.vectors[rows]
    else:
        raise ValueError(f"text: expected auto, words, open_clip or open_clip:FILE, got {text!r}")
    nearest = [[table.names[row] for row in rows] for rows in table.nearest_rows(directions)]
    return LabelPack(labels, vectors, kind=kind, nearest=nearest)


def explain(labels: Iterable[str]) -> list[Reading]:
    """How the table understands each label: its kind ("name", "noun", "phrase", "guess") and the words used for it."""
    labels, table = as_list(labels), load_table()
    return [read_label(table, label, i) for i, label in enumerate(labels)]


def as_list(labels: Iterable[str]) -> list[str]:
    """The labels as a list of 1 to 10,000 entries, or ValueError; the entries are checked when they are read."""
    if isinstance(labels, (str, bytes)):
        raise ValueError(f"labels: expected a list of words, got a {type(labels).__name__}; put it in a list")
    try:
        labels = list(labels)
    except TypeError:
        raise ValueError(f"labels: expected a list of words, got {type(labels).__name__}") from None
    if not labels:
        raise ValueError("labels: expected at least one word, got none")
    if len(labels) > LABELS_MAX:
        raise ValueError(f"labels: expected at most {LABELS_MAX}, got {len(labels)}")
    return labels


def clean_prompt(label: str, position: int) -> str:
    """The prompt for the tower: the label as written, with single spaces for underscores."""
    clean(label, position)  # refuse the same labels as the table does
    return " ".join(label.replace("_", " ").split())
