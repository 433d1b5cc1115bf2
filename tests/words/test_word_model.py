"""The mathematics behind the words table; each part is compared with an independent calculation."""

import sys
from pathlib import Path

import numpy as np
import pytest

scipy = pytest.importorskip("scipy", reason="the builder needs scipy")
from scipy.optimize import approx_fprime, brentq, nnls  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

from tiny_wordnet import write_wordnet  # noqa: E402

from zeroseg.training.words.features import unit  # noqa: E402
from zeroseg.training.words.model import RIDGE, Taxonomy, WordModel, anchor, sparse_code  # noqa: E402
from zeroseg.training.words.senses import FEATURES, fit_ranker  # noqa: E402
from zeroseg.training.words.wordnet_reader import WordNet  # noqa: E402
from zeroseg.words.guess import slips  # noqa: E402
from zeroseg.words.lookup import ALIKE, HEAD_LEAD, MODIFIER, read_label  # noqa: E402
from zeroseg.words.table import load_table  # noqa: E402


@pytest.fixture
def wordnet(tmp_path):
    return WordNet(write_wordnet(tmp_path / "wordnet"))


def make_model(wordnet, rows=None):
    rng = np.random.default_rng(0)
    synsets = ["00000003", "00000004", "00000010", "00000008", "00000012", None, "00000003", "00000016", "00000017"]
    directions, word, glove = (unit(rng.standard_normal((9, d)).astype(np.float32)) for d in (12, 6, 5))
    gloss = {id: unit(rng.standard_normal(6).astype(np.float32)) for id in wordnet.synsets}
    kept = list(range(9)) if rows is None else rows
    model = WordModel(directions[kept], [synsets[i] for i in kept], word[kept], glove[kept], gloss, Taxonomy(wordnet))
    return model, synsets, directions, word, glove


def test_closed_form_of_the_held_out_names_equals_fitting_without_them(wordnet):
    model, synsets, directions, word, glove = make_model(wordnet)
    held_out = model.held_out()
    for left_out in ([0, 6], [3], [5]):  # 0 and 6 share a synset
        kept = [i for i in range(9) if i not in left_out]
        less = make_model(wordnet, kept)[0]
        kernel = less._kernel(*less._synset_rows([synsets[i] for i in left_out]), word[left_out], glove[left_out])
        inside = less._kernel(less.taxa, less.glosses, word[kept], glove[kept])
        expected = kernel @ np.linalg.solve(inside + RIDGE * np.eye(len(kept)), directions[kept])
        np.testing.assert_allclose(held_out[left_out], expected, atol=1e-4)


def test_taxonomy_compares_by_shared_ancestors(wordnet):
    taxonomy = Taxonomy(wordnet)
    rows = taxonomy.rows.toarray()
    np.testing.assert_allclose((rows**2).sum(1), 1, atol=1e-6)
    cosine = lambda a, b: rows[taxonomy.row[a]] @ rows[taxonomy.row[b]]  # noqa: E731
    assert cosine("00000005", "00000003") > cosine("00000005", "00000004") > cosine("00000005", "00000009")
    # by hand: all 17 synsets are below entity, 5 below animal, 2 below cat, 1 is dog
    content = {"entity": 0, "animal": np.log(17 / 5), "cat": np.log(17 / 2), "dog": np.log(17)}
    shared = 1e-3 + content["animal"]
    expected = shared / np.sqrt((content["cat"] + 1e-3) * (content["dog"] + 1e-3))
    assert cosine("00000003", "00000004") == pytest.approx(expected, rel=1e-4)


def test_anchor_weighs_the_names_above(wordnet):
    named = {"00000003": np.array([1.0, 0, 0]), "00000002": np.array([0, 1.0, 0]), "00000006": np.array([0, 0, 1.0])}
    np.testing.assert_allclose(anchor(wordnet, named, "00000005"), [0.95, 0.475, 0])  # tabby: cat 1 up, animal 2 up
    np.testing.assert_allclose(anchor(wordnet, named, "00000015"), [0, 0, 1.2])  # sailor: person
    assert anchor(wordnet, named, "00000009") is None


def test_sparse_code_weights_are_the_best_non_negative_ones():
    rng = np.random.default_rng(1)
    dictionary, wanted = (unit(rng.standard_normal((n, 16))) for n in (40, 12))
    chosen, weights = sparse_code(wanted, dictionary, 5)
    assert (weights >= 0).all() and (np.diff(weights, axis=1) <= 0).all()
    for i in range(12):
        assert len(set(chosen[i])) == 5
        best, residual = nnls(dictionary[chosen[i]].T, wanted[i])
        assert np.linalg.norm(wanted[i] - weights[i] @ dictionary[chosen[i]]) == pytest.approx(residual, abs=1e-3)


def test_ranker_ends_where_the_slope_is_zero():
    rng = np.random.default_rng(2)
    examples = [(rng.standard_normal((int(n), len(FEATURES))), int(rng.integers(n))) for n in rng.integers(2, 6, 30)]

    def loss(weights):
        scores = [x @ weights for x, _ in examples]
        return weights @ weights - sum(s[y] - np.log(np.exp(s).sum()) for s, (_, y) in zip(scores, examples))

    fitted = fit_ranker(examples)
    assert np.abs(approx_fprime(fitted, loss, 1e-6)).max() < 2e-2
    assert loss(fitted) < loss(fitted + 0.05) and loss(fitted) < loss(np.zeros(len(FEATURES)))


def reference_slips(one, other):
    """Optimal string alignment (Damerau 1964), letter by letter."""
    table = {(i, -1): i + 1 for i in range(-1, len(one))} | {(-1, j): j + 1 for j in range(-1, len(other))}
    for i in range(len(one)):
        for j in range(len(other)):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one[i] != other[j]))
            if i and j and one[i] == other[j - 1] and one[i - 1] == other[j]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[len(one) - 1, len(other) - 1]


def test_slips_are_the_optimal_string_alignment_distance():
    rng = np.random.default_rng(3)
    words = ["".join(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(60)] + ["giraffe", "grifafe"]
    letters = np.array(words, "U10").view(np.uint32).reshape(len(words), 10)
    for key in words[::7] + ["giraff"]:
        expected = [reference_slips(word, key) for word in words]
        assert slips(letters, (letters > 0).sum(1), key).tolist() == expected


def test_phrase_is_its_head_moved_towards_the_others():
    table = load_table()
    hat, dog, got = (read_label(table, label) for label in ("hat", "dog", "a dog wearing a hat"))
    expected = dog.direction + MODIFIER * hat.direction
    assert (got.kind, got.used) == ("phrase", "dog + hat")
    np.testing.assert_allclose(got.direction, expected / np.linalg.norm(expected), atol=1e-6)
    assert read_label(table, "tabby cat").used == "tabby cat"
    assert read_label(table, "slice of pizza").used == "pizza"
    assert read_label(table, "man with hat").used == "man + hat"


def test_a_modifier_moves_the_head_no_further_than_its_name_allows():
    table = load_table()
    rider, horse, got = (read_label(table, label) for label in ("rider", "horse", "horse rider"))
    person = table.directions[table.name_rows["person"]]
    other = table.directions[table.directions @ person < ALIKE]
    best = lambda weight: ((person - other) @ (rider.direction + weight * horse.direction)).min()  # noqa: E731
    assert best(MODIFIER) < HEAD_LEAD
    weight = brentq(lambda weight: best(weight) - HEAD_LEAD, 0, MODIFIER)
    expected = rider.direction + weight * horse.direction
    np.testing.assert_allclose(got.direction, expected / np.linalg.norm(expected), atol=1e-5)

    rows = [table.name_rows[name] for name in ("shirt", "blouse")]
    assert table.directions[rows[0]] @ table.directions[rows[1]] > ALIKE
    assert table.nearest_rows(read_label(table, "blouse sleeve").direction[None])[0][0] == rows[1]
