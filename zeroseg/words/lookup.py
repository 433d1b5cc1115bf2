"""The meaning of a label according to the words table: a known name, a noun, a phrase with nouns, or a guess.

A phrase is its head noun, moved a little towards its other nouns: d = unit(d_head + MODIFIER * sum_i d_i / sqrt(n)). It
is moved less if a name of another kind would otherwise rank before the name nearest to the head.
"""

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from zeroseg.products import products
from zeroseg.words.guess import similar_words
from zeroseg.words.spelling import ARTICLES, clean, joins_and_splits, singulars, spellings, without_brackets
from zeroseg.words.table import WordsTable

# cosine to the true direction of 410 known names of two words: 0.62 at 0, 0.71 at 0.5, 0.72 at 0.75; the head leads
MODIFIER = 0.5
HEAD_LEAD = 0.05  # by how much the head's name stays ahead of names of another kind: a horse rider is no horse
ALIKE = 0.5  # names with this cosine are of one kind: a blouse sleeve may be near either shirt or blouse
_COMPOUND_MIN = 4  # letters of a noun that may stand for a longer unknown word: megabus -> bus is too short a match

# words after these tell where the thing is or what it has, not what it is
_AFTER = {
    "with",
    "without",
    "on",
    "in",
    "at",
    "from",
    "by",
    "near",
    "behind",
    "under",
    "over",
    "for",
    "to",
    "and",
    "or",
    "that",
    "which",
    "who",
    "holding",
    "wearing",
    "riding",
    "sitting",
    "standing",
    "lying",
    "walking",
    "running",
    "eating",
    "next",
    "beside",
    "inside",
    "between",
    "against",
    "above",
    "below",
}
# for these, the word after "of" counts: a slice of pizza is pizza, but a cup of tea is a cup
_MEASURES = {
    "piece",
    "slice",
    "bit",
    "bunch",
    "pair",
    "group",
    "set",
    "pile",
    "heap",
    "stack",
    "lot",
    "kind",
    "sort",
    "type",
    "herd",
    "flock",
    "pack",
    "crowd",
    "row",
    "collection",
    "couple",
    "dozen",
    "number",
    "handful",
    "loaf",
    "sheet",
    "part",
    "patch",
    "picture",
    "photo",
    "image",
    "drawing",
    "pride",
    "swarm",
    "school",
    "litter",
    "head",
    "breed",
    "species",
    "half",
    "quarter",
    "stick",
    "cluster",
    "bouquet",
    "team",
    "line",
}


@dataclass(frozen=True)
class Reading:
    """How a label is understood. row: the row of its known name, or None. used: the words that it was read as."""

    kind: str  # "name", "noun", "phrase" or "guess"
    used: str
    direction: np.ndarray  # (512,) float32, unit
    row: int | None = None


def read_label(table: WordsTable, label: str, position: int = 0) -> Reading:
    """Look up one label. Any text gets a Reading; raises ValueError for anything else."""
    key = clean(label, position)
    if label in table.name_rows:
        return _known(table, table.name_rows[label])
    found = _word(table, key)
    if found:
        return found
    bare = without_brackets(key)
    if bare != key:
        inside = " ".join(re.findall(r"\(([^)]*)\)", key))
        return read_label(table, f"{inside} {bare}" if inside else bare, position)
    return _phrase(table, key) or _guess(table, key)


def _word(table: WordsTable, key: str, far: bool = True) -> Reading | None:
    """key as one entry of the table, under any spelling. far: also other word breaks and spellings."""
    plural = ([table.plurals[key]] if key in table.plurals else []) + singulars(key)
    for form in [key, *plural]:
        if form in table.keys:
            return _known(table, table.keys[form])
    for form in [key, *plural]:
        if form in table.lemma_rows:
            return _noun(table, form)
    if not far:
        return None
    others = [other for form in [key, *plural] for other in spellings(form)] + [key + "s"]
    others += [other for form in [key, *plural] for other in joins_and_splits(form)]
    for form in others:
        if form in table.keys:
            return _known(table, table.keys[form])
    for form in others:
        if form in table.lemma_rows:
            return _noun(table, form)
    return None


def _known(table: WordsTable, row: int) -> Reading:
    return Reading("name", table.names[row], table.directions[row], row)


def _noun(table: WordsTable, form: str) -> Reading:
    return Reading("noun", form, table.noun_direction(table.lemma_rows[form]))


def _phrase(table: WordsTable, key: str) -> Reading | None:
    words = re.sub(r"[^\w\s&']", " ", key).split()
    cut = next((i for i, word in enumerate(words) if word in _AFTER and i), len(words))
    main, rest = words[:cut], words[cut:]
    if "of" in main[1:-1]:
        at = main.index("of", 1)
        measured = {main[at - 1], *singulars(main[at - 1])} & _MEASURES
        main, rest = (main[at + 1 :], main[: at - 1] + rest) if measured else (main[:at], main[at + 1 :] + rest)
    head, before = _longest_end(table, main)
    if head is None:
        return None
    modifiers = [found for part in (before, rest) for found in _all_words(table, part)]
    if not before and not rest:
        return head
    direction = head.direction
    if modifiers:
        direction = _moved(table, direction, np.stack([m.direction for m in modifiers]))
    return Reading("phrase", " + ".join([head.used, *(m.used for m in modifiers)]), direction.astype(np.float32))


def _moved(table: WordsTable, head: np.ndarray, modifiers: np.ndarray) -> np.ndarray:
    """The head's direction (512,) moved towards the modifiers' (n, 512), as far as it keeps its name; unit."""
    pull = modifiers.sum(0) / len(modifiers) ** 0.5
    scores, gains = products(np.stack([head, pull]), table.directions)
    first = scores.argmax()
    ahead, gain = scores[first] - scores, gains - gains[first]
    rivals = (gain > 0) & (products(table.directions[first, None], table.directions)[0] < ALIKE)
    limits = (ahead[rivals] - HEAD_LEAD) / gain[rivals]
    moved = head + max(0, min([MODIFIER, *limits])) * pull
    return moved / np.linalg.norm(moved)


def _longest_end(table: WordsTable, words: list[str]) -> tuple[Reading | None, list[str]]:
    """The longest run of words at the end that is an entry, and the words before it."""
    for start in range(max(0, len(words) - 6), len(words)):
        found = _word(table, " ".join(words[start:]), far=start >= len(words) - 2)
        if found:
            return found, words[:start]
    return None, words


def _all_words(table: WordsTable, words: list[str]) -> list[Reading]:
    """The nouns in a run of words, the longest first, from its end; other words are left out."""
    found = []
    words = [word for word in words if word not in _AFTER and word not in ARTICLES]
    while words:
        one, before = _longest_end(table, words)
        found += [one] if one else []
        words = before if one else words[:-1]
    return found


def _guess(table: WordsTable, key: str) -> Reading:
    """The word that key may misspell, else the noun that it ends with, similar words, or a direction near none."""
    slip = similar_words(table, key)
    if slip:
        found = _word(table, slip, far=False)
        return Reading("guess", found.used, found.direction)
    last = key.split()[-1]
    for start in range(1, len(last) - _COMPOUND_MIN + 1):
        found = _word(table, last[start:], far=False)
        if found:
            return Reading("guess", found.used, found.direction)
    for word in reversed(key.split()) if " " in key else ():
        found = _word(table, word, far=False) if len(word) > 2 else None
        found = found or (_word(table, slip, far=False) if (slip := similar_words(table, word)) else None)
        if found:
            return Reading("guess", found.used, found.direction)
    for end in range(len(last) - 1, _COMPOUND_MIN - 1, -1):
        found = _word(table, last[:end], far=False)
        if found:
            return Reading("guess", found.used, found.direction)
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    direction = np.random.default_rng(seed).standard_normal(table.directions.shape[1]).astype(np.float32)
    return Reading("guess", "", direction / np.linalg.norm(direction))
