"""From words to text vectors without a text tower: known names exactly, other nouns placed near known ones."""

import difflib
import io
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.words.pack import LABELS_MAX, SPACE, LabelPack
from zeroseg.words.spelling import clean, singulars, variants, without_brackets

__all__ = ["SPACE", "LabelEmbeddings", "LabelPack", "centre", "embed_labels"]

_NEAREST = 3
_TOWER = "open_clip"
_NONE = np.zeros(0, np.int32)


class LabelEmbeddings(NamedTuple):
    """vectors (n, 512) float32 unit rows; known (n,) bool, exact or approximate; nearest, up to 3 known names each."""

    vectors: np.ndarray
    known: np.ndarray
    nearest: list[list[str]]


def embed_labels(labels: Sequence[str], text: str = "auto") -> LabelEmbeddings:
    """Embed words: one unit vector per label, in the order given.

    text  "auto" or "words": the bundled table. "open_clip" or "open_clip:FILE": the real text tower.

    Raises ValueError for no labels, a label that is no word, more than 10,000, or another text; UnavailableError
    where the tower is missing.
    """
    if isinstance(labels, (str, bytes)):
        raise ValueError(f"labels: expected a list of words, got one {type(labels).__name__}; put it in a list")
    try:
        labels = list(labels)
    except TypeError:
        raise ValueError(f"labels: expected a list of words, got {type(labels).__name__}") from None
    if not labels:
        raise ValueError("labels: expected at least one word, got none")
    if len(labels) > LABELS_MAX:
        raise ValueError(f"labels: expected at most {LABELS_MAX}, got {len(labels)}")
    keys = [clean(label, position) for position, label in enumerate(labels)]
    if not isinstance(text, str) or not (text in ("auto", "words", _TOWER) or text.startswith(_TOWER + ":")):
        raise ValueError(f"text: expected auto, words, open_clip or open_clip:FILE, got {text!r}")
    table = _table()
    if text.startswith(_TOWER):
        from zeroseg.words.text_tower import tower_vectors

        vectors = tower_vectors(labels, text.partition(":")[2] or None)
        known = np.ones(len(labels), bool)
    else:
        found = {pair: table.embed(*pair) for pair in dict.fromkeys(zip(keys, labels))}
        vectors = np.stack([found[pair][0] for pair in zip(keys, labels)])
        known = np.array([found[pair][1] for pair in zip(keys, labels)], bool)
    return LabelEmbeddings(vectors, known, table.nearest(vectors))


def centre() -> np.ndarray:
    """The mean text vector of the known names, (512,) float32."""
    return _table().mean.copy()


class _Table:
    """words.npz: the known names with their vectors, and every other noun as a mixture of up to 4 known names."""

    def __init__(self, stored):
        lines = lambda key: stored[key].tobytes().decode("utf-8").split("\n")  # noqa: E731
        self.names = lines("names")
        self.vectors = _unit(stored["vectors"].astype(np.float32))
        self.mean = self.vectors.mean(0)
        away = self.vectors - self.mean
        self.scale = float(np.linalg.norm(away, axis=1).mean())
        self.directions = _unit(away)
        self.exact = {name: row for row, name in enumerate(self.names)}  # "bow-tie" and "bow tie" are two names
        self.known = dict(zip(lines("keys"), stored["rows"].tolist()))
        nouns = lines("nouns")
        self.nouns = {noun: at for at, noun in enumerate(nouns)}
        self.sets, self.anchors, self.weights = stored["sets"], stored["anchors"], stored["weights"]
        self._trigrams = None

    def embed(self, key: str, written: str) -> tuple[np.ndarray, bool]:
        """The vector of a clean key, and whether it is exactly that of a known name; as written, a name is itself."""
        if written in self.exact:
            return self.vectors[self.exact[written]], True
        forms = variants(key)
        found = self._find(forms)
        if found is None:
            found = self._find_head(forms)
        if found is None:
            found = self._approximate(self._find(self._similar(forms[0])))
        if found is None:  # not one trigram in common with any word
            return self.vectors[0], False
        at, exact = found
        if exact:
            return self.vectors[at], True
        return self._mixture(at), False

    def _find(self, forms: Sequence[str]) -> tuple[int, bool] | None:
        # the plain word among the nouns comes before a bolder variant among the names: "ass" is no "a s s"
        for form in forms:
            if form in self.known:
                return self.known[form], True
            if form in self.nouns:
                return int(self.sets[self.nouns[form]]), False
        return None

    def _find_head(self, forms: Sequence[str]) -> tuple[int, bool] | None:
        words = without_brackets(forms[0]).partition(" of ")[0].split()
        tries = [" ".join(words[start:]) for start in range(len(words))]
        tries += [" ".join(words[:end]) for end in range(len(words) - 1, 0, -1)]
        for phrase in tries:
            found = self._find([phrase, *singulars(phrase)])
            if found is not None:
                return self._approximate(found)
        return None

    @staticmethod
    def _approximate(found: tuple[int, bool] | None) -> tuple[int, bool] | None:
        return (-found[0] - 1, False) if found and found[1] else found

    def _mixture(self, at: int) -> np.ndarray:
        if at < 0:  # one known name alone, as the head of a phrase or a misspelling
            return self.vectors[-at - 1]
        weights = self.weights[at].astype(np.float32)
        direction = weights @ self.directions[self.anchors[at]]
        return _unit(self.mean + self.scale * _unit(direction))

    def _similar(self, key: str) -> list[str]:
        """Keys spelled most like this one, best first; the likelihood of a typing error alone decides."""
        if self._trigrams is None:
            self._keys = [*self.known, *self.nouns]
            self._keys = [*self.known, *self.nouns]
            self._trigrams = {}
            for at, other in enumerate(self._keys):
                for gram in _grams(other):
                    self._trigrams.setdefault(gram, []).append(at)
            self._trigrams = {gram: np.array(rows, np.int32) for gram, rows in self._trigrams.items()}
            self._lengths = np.array([len(other) + 1 for other in self._keys])
        grams = _grams(key)
        shared = np.zeros(len(self._keys))
        for gram in grams:
            shared[self._trigrams.get(gram, _NONE)] += 1
        best = np.argsort(-shared / (len(grams) + self._lengths - shared), kind="stable")[:20].tolist()
        best = [at for at in best if shared[at]]
        # among equals a known name is likelier meant than a rare noun
        score = lambda at: (difflib.SequenceMatcher(None, key, self._keys[at]).ratio()  # noqa: E731
                            + 0.05 * (at < len(self.known)))
        return [self._keys[at] for at in sorted(best, key=score, reverse=True)]

    def nearest(self, vectors: np.ndarray) -> list[list[str]]:
        """The known names nearest to each vector by the cosine of centred vectors, no name twice."""
        found = []
        for start in range(0, len(vectors), 1024):
            scores = _unit(vectors[start:start + 1024] - self.mean) @ self.directions.T
            for row in np.argsort(-scores, axis=1, kind="stable")[:, :4 * _NEAREST]:
                found.append(list(dict.fromkeys(self.names[at] for at in row))[:_NEAREST])
        return found


def _grams(key: str) -> set[str]:
    padded = f"  {key} "
    return {padded[at:at + 3] for at in range(len(padded) - 2)}


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.maximum(length, 1e-12)).astype(np.float32)


@lru_cache(maxsize=1)
def _table() -> _Table:
    file = files("zeroseg") / "bundled" / "words.npz"
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            return _Table(stored)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ZerosegError(f"{file}: the bundled word table is missing or damaged; install zeroseg again") from error
