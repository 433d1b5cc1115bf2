"""The words table, zeroseg/bundled/words.npz: the known names and a direction for every other English noun.

A text vector is t = m + s d, where m is the mean of the known names' vectors, d is a unit direction, and s > 0 makes t
a unit vector. The model compares labels by d (the centred cosine). So a noun is stored as a direction: a non-negative
sum of the directions of a few known names. training/build_words.py builds the table; docs/words.md explains how.

Fields of the file: format, space; names, lemmas, keys, plurals (text as uint8, one item per line; keys and plurals have
two columns); vectors int8 and scale float32 (a known name's vector is their product); codes_low, codes_high, levels
uint8 (anchors, lemmas): a noun's known names, and their weights in 63ths of the first; common uint8 (keys + lemmas):
log2 of a word's frequency rank, 31 if unknown.
"""

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.products import products
from zeroseg.words.spelling import without_brackets

FORMAT = 1


@dataclass(frozen=True, eq=False)  # compared and hashed by identity
class WordsTable:
    """names: the n known names. keys: every spelling that means one -> its row. lemmas: the m other nouns, sorted."""

    names: list[str]
    vectors: np.ndarray  # (n, 512) float32 unit rows
    keys: dict[str, int]
    lemmas: list[str]
    codes: tuple[np.ndarray, np.ndarray]  # low and high byte, each (anchors, m) uint8
    levels: np.ndarray  # (anchors, m) uint8
    common: np.ndarray  # (keys + m,) uint8, 0 the most frequent word
    plurals: dict[str, str]

    @cached_property
    def centre(self) -> np.ndarray:
        """m, the mean text vector of the known names: (512,) float32, not of unit length."""
        return self.vectors.mean(0)

    @cached_property
    def directions(self) -> np.ndarray:
        """d of the known names: (n, 512) float32 unit rows."""
        centred = self.vectors - self.centre
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    @cached_property
    def name_rows(self) -> dict[str, int]:
        """Rows of the names exactly as written: `bow tie` and `bow-tie` are two names."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def lemma_rows(self) -> dict[str, int]:
        return dict(zip(self.lemmas, range(len(self.lemmas))))

    @cached_property
    def plain_names(self) -> list[str]:
        return [without_brackets(name.lower()) for name in self.names]

    def noun_direction(self, row: int) -> np.ndarray:
        """d of the lemma in this row: (512,) float32 unit."""
        anchors = self.codes[0][:, row].astype(np.int64) + 256 * self.codes[1][:, row].astype(np.int64)
        total = self.levels[:, row].astype(np.float32) @ self.directions[anchors]
        return total / np.linalg.norm(total)

    def nearest_rows(self, directions: np.ndarray, count: int = 3) -> list[list[int]]:
        """Rows of the nearest known names by centred cosine, nearest first.

        Names that differ only in brackets count once, as the one without brackets.
        """
        found = []
        looked_at = min(8 * count, len(self.names))
        for start in range(0, len(directions), 1024):
            scores = products(directions[start : start + 1024], self.directions)
            best = np.argpartition(-scores, looked_at - 1, axis=1)[:, :looked_at]
            best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)
            found += [self._apart(rows, count) for rows in best.tolist()]
        return found

    def _apart(self, rows: list[int], count: int) -> list[int]:
        chosen: dict[str, int] = {}
        for row in rows:
            plain = self.plain_names[row]
            if plain not in chosen and len(chosen) == count:
                break
            if plain not in chosen or len(self.names[row]) < len(self.names[chosen[plain]]):
                chosen[plain] = row
        return list(chosen.values())

    def to_vectors(self, directions: np.ndarray) -> np.ndarray:
        """t = m + s d with |t| = 1: (k, 512) float32 from unit directions."""
        along = directions @ self.centre
        s = -along + np.sqrt(along**2 + 1 - self.centre @ self.centre)
        vectors = self.centre + s[:, None] * directions
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=1)
def load_table() -> WordsTable:
    """The bundled table, read when first used and kept."""
    file = files("zeroseg").joinpath("bundled", "words.npz")
    try:
        return read_table(io.BytesIO(file.read_bytes()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ZerosegError(f"{file}: missing or damaged ({error}); install zeroseg again") from error


def read_table(file) -> WordsTable:
    with np.load(file, allow_pickle=False) as stored:
        if int(stored["format"]) != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {int(stored['format'])}")
        lines = {key: stored[key].tobytes().decode() for key in ("names", "keys", "lemmas", "plurals")}
        vectors = stored["vectors"] * stored["scale"][:, None]
        keys = dict(line.split("\t") for line in lines["keys"].split("\n"))
        return WordsTable(
            names=lines["names"].split("\n"),
            vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            keys={key: int(row) for key, row in keys.items()},
            lemmas=lines["lemmas"].split("\n"),
            codes=(stored["codes_low"], stored["codes_high"]),
            levels=stored["levels"],
            common=stored["common"],
            plurals=dict(line.split("\t") for line in lines["plurals"].split("\n")),
        )


def centre() -> np.ndarray:
    """The mean text vector of the known names: (512,) float32. The model subtracts it before it compares labels."""
    return load_table().centre.copy()
