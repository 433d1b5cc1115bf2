"""The nouns of WordNet 3.0 (Fellbaum, 1998), read from its database files. Format: man wndb(5WN), cntlist(5WN)."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from zeroseg.errors import ZerosegError

# lexicographer files that name things one can see, by number (man lexnames(5WN))
ANIMAL, ARTIFACT, BODY, FOOD, OBJECT, PERSON, PLANT, SUBSTANCE = 5, 6, 8, 13, 17, 18, 20, 27
TOP, GROUP, LOCATION = 3, 14, 15
PHYSICAL = {TOP, ANIMAL, ARTIFACT, BODY, FOOD, OBJECT, PERSON, PLANT, SUBSTANCE}


@dataclass
class Synset:
    """One meaning: its words, its relations to other synsets (ids), its definition."""

    id: str
    lexfile: int
    lemmas: list[str]
    definition: str
    counts: list[int] = field(default_factory=list)  # tagged occurrences of each lemma in this sense
    hypernyms: list[str] = field(default_factory=list)
    hyponyms: list[str] = field(default_factory=list)
    wholes: list[str] = field(default_factory=list)  # what it is a part, member or substance of
    is_instance: bool = False  # a named one: Paris, Einstein


class WordNet:
    """synsets: id -> Synset. senses: lower-case lemma -> ids, most frequent first. plurals: irregular -> singular."""

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        if not (folder / "data.noun").is_file():
            raise ZerosegError(f"{folder}: has no data.noun; WordNet 3.0 is Debian's package wordnet-base")
        self.synsets = {synset.id: synset for synset in _synsets(folder)}
        self.senses = {}
        for fields in _rows(folder / "index.noun"):
            self.senses[fields[0]] = fields[-int(fields[2]) :]
        self.plurals = {row[0]: row[1] for row in (line.split() for line in _lines(folder / "noun.exc"))}
        self.other_words = {fields[0] for part in ("verb", "adj", "adv") for fields in _rows(folder / f"index.{part}")}
        self.other_words |= {row[0] for part in ("verb", "adj") for row in _rows(folder / f"{part}.exc")}  # "drank"
        self._ancestors = {}
        self._put_persons_below_person()

    def _put_persons_below_person(self) -> None:
        """WordNet has "operator", and with it every driver, beside "person", and peoples below groups."""
        for person in self.senses.get("person", [])[:1]:
            for synset in self.synsets.values():
                above = {self.synsets[id].lexfile for id in synset.hypernyms}
                if synset.lexfile == PERSON and synset.id != person and above and above <= {TOP, GROUP}:
                    synset.hypernyms.append(person)
                    self.synsets[person].hyponyms.append(synset.id)

    def ancestors(self, id: str) -> dict[str, int]:
        """Every synset above this one with its distance in steps, itself at 0.

        Parts of bodies and plants also have their whole as an ancestor, up to three steps: finger -> hand.
        """
        if id in self._ancestors:
            return self._ancestors[id]
        self._ancestors[id] = {}  # a part of a part of itself ends here
        synset, found = self.synsets[id], {id: 0}
        steps = [(above, 99) for above in synset.hypernyms]
        if synset.lexfile in (BODY, PLANT):
            steps += [(whole, 2) for whole in synset.wholes if self.synsets[whole].lexfile in (BODY, PLANT)]
        for above, reach in steps:
            for other, distance in self.ancestors(above).items():
                if distance <= reach and distance + 1 < found.get(other, 99):
                    found[other] = distance + 1
        self._ancestors[id] = found
        return found


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="latin-1").splitlines() if not line.startswith(" ")]


def _rows(path: Path) -> list[list[str]]:
    return [line.split() for line in _lines(path)]


def _synsets(folder: Path):
    counts = {key: int(count) for key, _, count in _rows(folder / "cntlist.rev") if "%1:" in key}
    for line in _lines(folder / "data.noun"):
        body, gloss = line.split(" | ", 1)
        fields = body.split()
        size = int(fields[3], 16)
        synset = Synset(fields[0], int(fields[1]), fields[4 : 4 + 2 * size : 2], re.split(r';\s*"', gloss)[0].strip())
        for lemma, number in zip(synset.lemmas, fields[5 : 5 + 2 * size : 2]):
            key = f"{lemma.lower()}%1:{synset.lexfile:02d}:{int(number, 16):02d}::"
            synset.counts.append(counts.get(key, 0))
        start = 4 + 2 * size
        for at in range(start + 1, start + 1 + 4 * int(fields[start]), 4):
            symbol, target, part = fields[at : at + 3]
            if part != "n":
                continue
            if symbol in ("@", "@i"):
                synset.hypernyms.append(target)
                synset.is_instance |= symbol == "@i"
            elif symbol in ("~", "~i"):
                synset.hyponyms.append(target)
            elif symbol[0] == "#":
                synset.wholes.append(target)
        yield synset
