"""The builder of the words table, from a tiny WordNet to a file that the lookup reads; and what it refuses."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("scipy", reason="the builder needs scipy")

sys.path.insert(0, str(Path(__file__).parent))

from tiny_wordnet import NAMES, write_senses, write_wordnet  # noqa: E402

from zeroseg.training import build_words  # noqa: E402
from zeroseg.training.words.wordnet_reader import WordNet  # noqa: E402
from zeroseg.words.lookup import read_label  # noqa: E402
from zeroseg.words.table import read_table  # noqa: E402


class LetterEncoder:
    """Stands in for the sentence encoder: a text is the sum of a fixed random vector per word."""

    def __init__(self, folder, cache):
        pass

    def __call__(self, texts):
        def word(one):
            seed = int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "little")
            return np.random.default_rng(seed).standard_normal(24)

        rows = np.array([sum(word(one) for one in text.replace(":", "").lower().split()) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(build_words, "SentenceEncoder", LetterEncoder)
    monkeypatch.setattr(build_words, "HERE", tmp_path)
    write_wordnet(tmp_path / "wordnet")
    write_senses(tmp_path / "words_senses.tsv")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(NAMES), 32)) + 3  # text vectors have a large part in common
    np.save(tmp_path / "vectors.npy", (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16))
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    words = ["the", "cat", "car", "person", "tabby", "sedan", "oak", "tree"]
    (tmp_path / "glove.json").write_text(
        json.dumps(
            {"dimensions": 8, "words": words, "vectors": {word: rng.standard_normal(8).tolist() for word in words}}
        )
    )
    (tmp_path / "encoder").mkdir()
    options = {
        "--names": "names.txt",
        "--vectors": "vectors.npy",
        "--wordnet": "wordnet",
        "--encoder": "encoder",
        "--glove": "glove.json",
        "--cache": "cache",
        "--out": "words.npz",
    }
    return {option: tmp_path / name for option, name in options.items()}


def run(inputs):
    return CliRunner().invoke(build_words.main, [str(part) for pair in inputs.items() for part in pair])


def test_table_built_from_a_tiny_wordnet_places_its_nouns(inputs, tmp_path):
    done = run(inputs)
    assert done.exit_code == 0, done.output
    with open(tmp_path / "words.npz", "rb") as file:
        table = read_table(file)
    given = np.load(inputs["--vectors"]).astype(np.float32)
    assert table.names == NAMES
    assert (table.vectors * given / np.linalg.norm(given, axis=1, keepdims=True)).sum(1).min() > 0.999
    for noun, name in {"tabby": "cat", "sedan": "car", "sailor": "person", "oak": "tree"}.items():
        reading = read_label(table, noun)
        nearest = table.nearest_rows(reading.direction[None], 1)[0][0]
        assert (reading.kind, NAMES[nearest]) == ("noun", name)
    for noun, name in {"auto": "car", "busses": "bus", "human": "person", "beasts": "animal"}.items():
        reading = read_label(table, noun)
        assert (reading.kind, reading.used) == ("name", name)
    assert read_label(table, "zorgblat").kind == "guess"


def test_building_twice_gives_the_same_file(inputs, tmp_path):
    assert run(inputs).exit_code == 0
    first = (tmp_path / "words.npz").read_bytes()
    assert run(inputs).exit_code == 0
    assert (tmp_path / "words.npz").read_bytes() == first


def test_a_table_is_corrected_without_encoder_and_glove(inputs, tmp_path):
    assert run(inputs).exit_code == 0
    with np.load(tmp_path / "words.npz") as stored:
        fields = dict(stored)
    at = bytes(fields["lemmas"]).decode().split("\n").index("sailor")
    fields["codes_low"][:, at], fields["levels"][:, at] = NAMES.index("car"), [63] + 7 * [0]
    np.savez(tmp_path / "before.npz", **fields)
    given = {option: inputs[option] for option in ("--names", "--vectors", "--wordnet", "--out")}
    done = run(given | {"--start": tmp_path / "before.npz"})
    assert done.exit_code == 0 and "corrected 1 of" in done.output, done.output
    with np.load(tmp_path / "words.npz") as stored:
        after = dict(stored)
    assert NAMES[after["codes_low"][0, at]] == "person"
    for name, field in fields.items():
        if name in ("codes_low", "levels"):
            field, after[name] = np.delete(field, at, 1), np.delete(after[name], at, 1)
        np.testing.assert_array_equal(after[name], field)
    inputs["--names"].write_text("\n".join(NAMES[::-1]))
    refused = run(given | {"--start": tmp_path / "before.npz"})
    assert refused.exit_code == 1 and "expected the 10 names of --names, got others" in refused.output.splitlines()[-1]
    neither = run(given)
    assert neither.exit_code == 2 and "expected --encoder and --glove, or --start" in neither.output.splitlines()[-1]


def spoil_vectors(inputs):
    np.save(inputs["--vectors"], np.zeros((3, 32), np.float16))


def spoil_wordnet(inputs):
    (inputs["--wordnet"] / "data.noun").unlink()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (spoil_vectors, r"--vectors: expected \(10, D\), a row for every name, got \(3, 32\)"),
        (spoil_wordnet, "has no data.noun"),
        (lambda inputs: inputs["--glove"].write_text("{}"), "--glove .* expected the JSON of wink-embeddings"),
        (lambda inputs: inputs["--glove"].write_text("words"), "--glove .* expected the JSON of wink-embeddings"),
        (
            lambda inputs: inputs["--names"].write_text("\n".join(f"n{i}" for i in range(10))),
            "--names: 'animal' of words_",
        ),
        (lambda inputs: inputs["--glove"].unlink(), "glove.json' does not exist"),
    ],
)
def test_bad_inputs_end_in_one_line_and_write_nothing(inputs, tmp_path, spoil, message):
    import re

    spoil(inputs)
    done = run(inputs)
    assert done.exit_code != 0 and re.search(message, done.output.splitlines()[-1]), done.output
    assert "Traceback" not in done.output and not (tmp_path / "words.npz").exists()


def test_encoder_without_weights_is_one_line(inputs, monkeypatch):
    from zeroseg.training.words.features import SentenceEncoder

    monkeypatch.setattr(build_words, "SentenceEncoder", SentenceEncoder)
    done = run(inputs)
    assert done.exit_code == 1
    assert "no model.safetensors, config.json, tokenizer.json in it" in done.output.splitlines()[-1]


def test_reader_finds_senses_ancestors_and_exceptions(tmp_path):
    wordnet = WordNet(write_wordnet(tmp_path / "wordnet"))
    assert wordnet.senses["cat"] == ["00000003", "00000010"]
    assert wordnet.ancestors("00000005") == {"00000005": 0, "00000003": 1, "00000002": 2, "00000001": 3}
    assert wordnet.synsets["00000008"].lemmas == ["car", "auto"] and wordnet.synsets["00000008"].counts == [5, 5]
    assert wordnet.synsets["00000008"].definition == "a vehicle with four wheels"
    assert wordnet.synsets["00000008"].hyponyms == ["00000009"]
    assert wordnet.plurals == {"busses": "bus"} and wordnet.other_words == {"run", "ran", "big", "bigger", "well"}
