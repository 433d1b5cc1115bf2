"""The query language, and filters.

    dog, cat        any: a dog or a cat
    dog+person      all: both in one image
    beach-person    without: a beach, and no person

The comma has the lowest precedence. A hyphen within a known word ("t-shirt") is part of the word.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import NamedTuple

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.words import each_once, explain, split_words

_HYPHENS = re.compile(r"\s+-\s*|-(?=\S)")


class Alternative(NamedTuple):
    """present: words that an image must all have; absent: words that it must not have."""

    present: tuple[str, ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """Any of the alternatives. wanted: the words to find, absent: the words to exclude; each once."""

    alternatives: tuple[Alternative, ...]

    @property
    def wanted(self) -> list[str]:
        return each_once(word for one in self.alternatives for word in one.present)

    @property
    def absent(self) -> list[str]:
        shown = {word.casefold() for word in self.wanted}
        words = each_once(word for one in self.alternatives for word in one.absent)
        return [word for word in words if word.casefold() not in shown]

    @property
    def words(self) -> list[str]:
        return self.wanted + self.absent

    def combine(self, scores: Callable[[str], np.ndarray], is_absent: Callable[[str], np.ndarray]) -> np.ndarray:
        """The scores of n images, (n,) float32: the highest over the alternatives.

        An alternative scores as its lowest word, or -inf if the image has an excluded word. scores(word) -> (n,)
        float32; is_absent(word) -> (n,) bool.
        """
        best = None
        for one in self.alternatives:
            score = reduce(np.minimum, map(scores, one.present))  # one word is not copied
            for word in one.absent:
                score = np.where(is_absent(word), score, np.float32(-np.inf))
            best = score if best is None else np.maximum(best, score)
        return best


@dataclass(frozen=True)
class Filters:
    """Filters of images. Raises ZerosegError unless 0 <= least <= most <= 1.

    after, before  time of recording: after <= time < before. Images without a time match neither.
    path           a pattern for the whole path; * stands for any text and ? for one character.
    least, most    limits of the share of the image's area that the found segments cover, in [0, 1].
    """

    after: datetime | None = None
    before: datetime | None = None
    path: str | None = None
    least: float = 0.0
    most: float = 1.0

    def __post_init__(self):
        if not 0 <= self.least <= self.most <= 1:
            raise ZerosegError(f"area: expected 0 <= least <= most <= 1, got {self.least} and {self.most}")

    @property
    def of_images(self) -> bool:
        """Whether a filter applies before any score is known."""
        return self.after is not None or self.before is not None or self.path is not None

    @property
    def by_area(self) -> bool:
        """Whether a filter limits the area of the found segments."""
        return self.least > 0 or self.most < 1

    @property
    def _pattern(self) -> str:
        """path as a regular expression for Arrow."""
        return "(?s)^" + "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in self.path) + "$"

    def fitting(self, paths, taken) -> np.ndarray:
        """The filters of_images, (n,) bool, for Arrow arrays of n paths and times."""
        import pyarrow as pa
        import pyarrow.compute as pc

        fits = pa.array(np.ones(len(paths), bool))
        if self.path is not None:
            fits = pc.and_(fits, pc.match_substring_regex(paths, self._pattern))
        for bound, compare in ((self.after, pc.greater_equal), (self.before, pc.less)):
            if bound is not None:
                fits = pc.and_(fits, pc.fill_null(compare(taken, pa.scalar(bound, pa.timestamp("us"))), False))
        return np.asarray(fits.combine_chunks() if isinstance(fits, pa.ChunkedArray) else fits)


def parse_query(text: str) -> Query:
    """Parse a query that a person typed. Raises ZerosegError if a word is missing."""
    alternatives = []
    for part in split_words(text):
        present, absent = [], []
        for piece in part.split("+"):
            first, *rest = _split_hyphens(piece)
            present.append(first)
            absent += rest
        if not all(present) or not all(absent):
            raise ZerosegError(
                f'query {text!r}: expected words, as in "dog", "dog, cat" (any), "dog+person" (all) or "beach-person" '
                "(without)"
            )
        alternatives.append(Alternative(tuple(present), tuple(absent)))
    if not alternatives:
        raise ZerosegError(f'query {text!r}: no words in it; expected something like "red bus"')
    return Query(tuple(alternatives))


def _split_hyphens(piece: str) -> list[str]:
    """The first word and the words after hyphens, stripped; a known word with a hyphen stays whole."""
    piece = piece.strip()
    parts = [part.strip() for part in _HYPHENS.split(piece)]
    marks = _HYPHENS.findall(piece)
    joined = [parts[0]]
    for part, mark in zip(parts[1:], marks):
        whole = f"{joined[-1]}-{part}"
        if mark == "-" and joined[-1] and part and _is_word(whole):
            joined[-1] = whole
        else:
            joined.append(part)
    return joined


def _is_word(text: str) -> bool:
    try:
        return explain([text])[0].kind in ("name", "noun")
    except ValueError:
        return False
