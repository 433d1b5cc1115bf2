"""Words to vectors, offline: known names, any other English noun, label packs. numpy only; docs/words.md."""

from zeroseg.words.embed import embed_labels, explain
from zeroseg.words.pack import SPACE, LabelPack
from zeroseg.words.spelling import LABELS_MAX, each_once, split_words, without_comment, words_of_lines
from zeroseg.words.table import centre

__all__ = [
    "LABELS_MAX",
    "SPACE",
    "LabelPack",
    "centre",
    "each_once",
    "embed_labels",
    "explain",
    "split_words",
    "without_comment",
    "words_of_lines",
]
