"""Words to vectors, offline: known names, any other English noun, label packs. numpy only; docs/words.md."""

from zeroseg.words.embed import LabelEmbeddings, embed_labels, explain
from zeroseg.words.pack import LABELS_MAX, SPACE, LabelPack
from zeroseg.words.spelling import each_once, split_words, without_comment, words_of_lines
from zeroseg.words.table import centre

__all__ = [
    "LABELS_MAX",
    "SPACE",
    "LabelEmbeddings",
    "LabelPack",
    "centre",
    "each_once",
    "embed_labels",
    "explain",
    "split_words",
    "without_comment",
    "words_of_lines",
]
