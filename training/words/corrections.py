"""Correct a noun's direction by WordNet and spelling. Names far from all its senses in the taxonomy

- may not rank before the name above it, if its senses have one in common: a bus driver is a person before a bus;
- are otherwise removed from the direction, if they only share letters with it: a river is not a river boat.

Both estimates of model.py depend on how words are written and used, where "river" and "river boat" are similar.
"""

from os.path import commonprefix

import numpy as np

from zeroseg.training.words.features import unit
from zeroseg.training.words.model import Taxonomy
from zeroseg.training.words.wordnet_reader import ARTIFACT, LOCATION, PERSON, PHYSICAL, WordNet
from zeroseg.words.spelling import clean, without_brackets

FAR = 0.25  # cosine in the taxonomy under which a name is of another kind; to persons, all but persons are
LEAD = 0.15  # how far the name above comes before names of another kind, both before d is a unit vector again
LIKE = 0.9  # names with this cosine are one
COMMON = 10  # tagged occurrences of a sense
TAKEN_OUT = 6  # names at most
_LETTERS = 3  # fewer shared ones say nothing


class Corrections:
    """names with unit directions (n, D) and synsets (an id or None each)."""

    def __init__(self, wordnet: WordNet, names: list[str], directions: np.ndarray, synsets: list[str | None]):
        self.wordnet, self.directions, self.taxonomy = wordnet, directions, Taxonomy(wordnet)
        self.names = [without_brackets(clean(name)) for name in names]
        self.placed = np.array([row for row, id in enumerate(synsets) if id])
        self.taxa = self.taxonomy.rows[[self.taxonomy.row[synsets[row]] for row in self.placed]]
        self.files = np.array([self._file(synsets[row]) for row in self.placed])
        self.made = np.zeros(len(names), bool)
        self.made[self.placed] = self.files == ARTIFACT
        self.people = np.array(
            [id is not None and bool({*wordnet.senses["person"][:1]} & {*wordnet.ancestors(id)}) for id in synsets]
        )
        self.rows = {synsets[row]: row for row in self.placed[::-1]}

    def __call__(self, keys: list[str], lemmas: list[str], directions: np.ndarray) -> np.ndarray:
        """(n, D) unit: the directions of nouns as they should be. lemmas: in WordNet's spelling, lower case."""
        corrected = directions.copy()
        for start in range(0, len(keys), 1000):
            part = slice(start, start + 1000)
            corrected[part] = self._some(keys[part], lemmas[part], directions[part])
        return corrected

    def _some(self, keys, lemmas, directions):
        senses = [self._senses(lemma) for lemma in lemmas]
        far = self._far(senses)
        corrected = directions.copy()
        scores = directions @ self.directions.T
        for i in np.flatnonzero(far[np.arange(len(keys)), scores.argmax(1)]):
            if self._file(self.wordnet.senses[lemmas[i]][0]) in PHYSICAL | {LOCATION}:
                corrected[i] = self._one(keys[i], senses[i], far[i], corrected[i])
        return corrected

    def _senses(self, lemma: str) -> list[str]:
        """Those of things that one can see, without those never met where another is common; all where none is left."""
        ids = self.wordnet.senses[lemma]
        seen = {id: self.wordnet.synsets[id] for id in ids if self.wordnet.synsets[id].lexfile in PHYSICAL}
        counts = {
            id: max(count for word, count in zip(synset.lemmas, synset.counts) if word.lower() == lemma)
            for id, synset in seen.items()
            if not synset.is_instance
        }
        common = max(counts.values(), default=0) >= COMMON
        return [id for id, count in counts.items() if count or not common] or ids

    def _far(self, senses: list[list[str]]) -> np.ndarray:
        """(nouns, names) bool. Names that stand for no synset are never far."""
        owner = np.repeat(np.arange(len(senses)), [len(ids) for ids in senses])
        taxa = self.taxonomy.rows[[self.taxonomy.row[id] for ids in senses for id in ids]]
        cosines = np.zeros((len(senses), len(self.placed)), np.float32)
        np.maximum.at(cosines, owner, (taxa @ self.taxa.T).toarray().astype(np.float32))
        files = np.zeros((len(senses), 64), bool)
        files[owner, [self._file(id) for ids in senses for id in ids]] = True
        files[:, ARTIFACT] = False
        far = np.zeros((len(senses), len(self.names)), bool)
        far[:, self.placed] = (cosines < FAR) & ~files[:, self.files]
        persons = [all(self._file(id) == PERSON for id in ids) for ids in senses]
        far[persons] = ~self.people
        return far

    def _file(self, id: str) -> int:
        return self.wordnet.synsets[id].lexfile

    def _one(self, key, senses, far, direction):
        above = {self._above(id) for id in senses}
        lead = above.pop()
        if not above and lead is not None:
            likeness = self.directions @ self.directions[lead]
            far = far & (likeness < LIKE)
            short = (self.directions[far] @ direction + LEAD - self.directions[lead] @ direction) / (1 - likeness[far])
            return unit(direction + max(0, *short) * self.directions[lead])
        # of two words for something made, the first often says where it is: a window screen is not far from windows
        kept = self.made if " " in key and ARTIFACT in map(self._file, senses) else np.zeros_like(self.made)
        for _ in range(TAKEN_OUT):
            best = int((self.directions @ direction).argmax())
            if not far[best] or kept[best] or not share_letters(key, self.names[best]):
                break
            direction = unit(direction - (self.directions[best] @ direction) * self.directions[best])
        return direction

    def _above(self, id: str) -> int | None:
        """The row of the nearest name above a sense."""
        found = [
            (distance, self.rows[other]) for other, distance in self.wordnet.ancestors(id).items() if other in self.rows
        ]
        return min(found)[1] if found else None


def share_letters(key: str, name: str) -> bool:
    """True if the names share a leading word (or half the shorter name as a prefix), or a word that is not the last
    word of both.
    """
    one, other = key.split(), name.split()
    shared = {word for word in {*one} & {*other} if len(word) >= _LETTERS}
    if one[-1] == other[-1]:
        return bool(shared - {one[-1]})
    joined = "".join(one), "".join(other)
    alike = len(commonprefix(joined))
    whole = {len("".join(words[:count])) for words in (one, other) for count in range(1, len(words) + 1)}
    return bool(shared) or alike >= _LETTERS and (alike in whole or 2 * alike >= min(map(len, joined)))
