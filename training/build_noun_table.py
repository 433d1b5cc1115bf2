"""Build zeroseg/bundled/words.npz: the known names with their vectors, and every WordNet noun as a mixture of them.

    python training/build_noun_table.py --labels labels/ --wordnet /usr/share/wordnet

A noun takes its likeliest sense (frequent, physical, near a known name). In that sense it stands near the known names
it is a kind of, 0.7 for every step up; near those that are kinds of it; and, weaker, near their siblings.
"""

import sys
from pathlib import Path

import click
import numpy as np

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.training.wordnet_reader import PHYSICAL, WordNet
from zeroseg.words.spelling import clean, is_irregular_plural, without_brackets

STEP, DOWN, ASIDE = 0.7, 0.9, 0.45   # per step; once for kinds of the noun; once for siblings
ANCHORS, UP_MAX, DOWN_MAX = 3, 7, 3
SENSES = Path(__file__).resolve().parent / "words_senses.tsv"
BYTES_MAX = 4 * 2**20


def read_senses(path: Path, names: list[str]) -> tuple[dict, dict]:
    """Of words_senses.tsv: synset -> rows of the names that are words for it, and of those beside it (~)."""
    named, beside = {}, {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, how, id = line.split("\t")[:3]
            (beside if how == "~" else named).setdefault(id, []).append((how, names.index(name)))
    order = {"=": 0, "+": 1, "~": 2}
    pick = lambda found: {id: [row for _, row in sorted(rows, key=lambda r: order[r[0]])]  # noqa: E731
                          for id, rows in found.items()}
    return pick(named), pick(beside)


class Placer:
    def __init__(self, wordnet: WordNet, named: dict, beside: dict):
        self.wordnet, self.named = wordnet, named
        self.below = {}   # synset -> {row: steps down to it}
        for extra, found in ((0, named), (1, beside)):
            for id, rows in found.items():
                for above, steps in wordnet.ancestors(id).items():
                    if steps + extra <= DOWN_MAX:
                        under = self.below.setdefault(above, {})
                        for row in rows:
                            under[row] = min(under.get(row, 99), steps + extra)
        self.cache = {}

    def place(self, id: str) -> list[tuple[int, float]]:
        """(row, weight) of the known names this synset stands near, the nearest first; at most ANCHORS."""
        if id not in self.cache:
            scores = {}
            for above, up in self.wordnet.ancestors(id).items():
                for row, down in self.below.get(above, {}).items():
                    if up and down and up > UP_MAX:
                        continue
                    score = STEP ** (up + down) * (1 if not down else DOWN if not up else ASIDE)
                    scores[row] = max(scores.get(row, 0), score)
            best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:ANCHORS]
            self.cache[id] = [(row, score) for row, score in best if score >= 0.25 * best[0][1]]
        return self.cache[id]

    def sense(self, lemma: str) -> str | None:
        """The likeliest synset of a lemma; None where none of them is anywhere near a known name."""
        best, chosen = 0.0, None
        for rank, id in enumerate(self.wordnet.senses[lemma]):
            synset, anchors = self.wordnet.synsets[id], self.place(id)
            if not anchors:
                continue
            count = sum(n for word, n in zip(synset.lemmas, synset.counts) if word.lower() == lemma)
            score = (count + 1) * 0.8 ** rank * (0.15 + anchors[0][1])
            if lemma not in synset.lemmas:  # written with a capital there: Ewe, a people; ewe, a sheep
                score *= 0.1
            score *= (8 if synset.lexfile in PHYSICAL else 1) * (0.1 if synset.is_instance else 1)
            if score > best:
                best, chosen = score, id
        return chosen


def build(names: list[str], vectors: np.ndarray, wordnet: WordNet, senses: Path = SENSES) -> dict[str, np.ndarray]:
    """The arrays of words.npz."""
    named, beside = read_senses(senses, names)
    placer = Placer(wordnet, named, beside)
    keys = {}
    for row, name in enumerate(names):
        keys.setdefault(clean(name), row)
    for row, name in enumerate(names):
        keys.setdefault(without_brackets(clean(name)), row)
    for row, name in enumerate(names):
        if "/" in name:
            for part in name.split("/"):
                keys.setdefault(clean(part), row)
    nouns, sets, mixtures = [], [], {}
    chosen = {}
    for lemma in wordnet.senses:
        key = clean(lemma) if any(c.isalpha() for c in lemma) else ""
        if key and key not in chosen and (id := placer.sense(lemma)):
            chosen[key] = id
    for plural, one in wordnet.plurals.items():
        if clean(one) in chosen or clean(one) in keys:
            plural = clean(plural)
            if plural not in chosen and plural not in keys and clean(one) in chosen:
                chosen[plural] = chosen[clean(one)]
    for key, id in sorted(chosen.items()):
        if key in keys or is_irregular_plural(key):
            continue
        if " " in key and wordnet.synsets[id].lexfile not in PHYSICAL:
            continue  # an idiom: "cup of tea" is looked up by its head
        if id in named:
            keys[key] = named[id][0]
            continue
        mixture = tuple(placer.place(id))
        nouns.append(key)
        sets.append(mixtures.setdefault(mixture, len(mixtures)))
    anchors = np.zeros((len(mixtures), ANCHORS), np.uint16)
    weights = np.zeros((len(mixtures), ANCHORS), np.float16)
    for mixture, at in mixtures.items():
        for column, (row, weight) in enumerate(mixture):
            anchors[at, column], weights[at, column] = row, weight
    text = lambda lines: np.frombuffer("\n".join(lines).encode(), np.uint8)  # noqa: E731
    return {"names": text(names), "vectors": vectors.astype(np.float16), "keys": text(keys),
            "rows": np.array(list(keys.values()), np.uint16), "nouns": text(nouns), "sets": np.array(sets, np.uint16 if
            len(mixtures) < 2**16 else np.uint32), "anchors": anchors, "weights": weights}


@click.command()
@click.option("--labels", type=click.Path(exists=True, path_type=Path), required=True, metavar="DIR",
              help="Folder with names.txt and clip_vitb32_text.npy.")
@click.option("--wordnet", type=click.Path(exists=True, path_type=Path), default="/usr/share/wordnet")
@click.option("--senses", type=click.Path(exists=True, path_type=Path), default=SENSES)
@click.option("--out", type=click.Path(path_type=Path), default="zeroseg/bundled/words.npz")
def main(labels: Path, wordnet: Path, senses: Path, out: Path):
    """Build the word table from the known names and WordNet 3.0 (Debian's wordnet-base)."""
    names = (labels / "names.txt").read_text(encoding="utf-8").splitlines()
    table = build(names, np.load(labels / "clip_vitb32_text.npy"), WordNet(wordnet), senses)
    np.savez_compressed(out, **table)
    size = out.stat().st_size
    click.echo(f"{out}: {len(names)} names, {len(table['rows'])} keys, {len(table['sets'])} nouns, {size / 1e6:.2f} MB")
    if size > BYTES_MAX:
        raise click.ClickException(f"{out}: {size} bytes, more than {BYTES_MAX}")


if __name__ == "__main__":
    main()
