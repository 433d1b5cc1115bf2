"""The words: known names exactly, forgiving lookup, unknown nouns near the right names, hostile input."""

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from click.testing import CliRunner

from zeroseg import embed_labels
from zeroseg.bench.words import measure
from zeroseg.commands.words import words
from zeroseg.words import LabelPack, centre


def stored():
    with np.load(files("zeroseg") / "bundled" / "words.npz", allow_pickle=False) as table:
        names = table["names"].tobytes().decode().split("\n")
        return names, table["vectors"].astype(np.float32)


def test_known_names_have_their_own_vectors():
    names, vectors = stored()
    assert len(names) == 1613
    got = embed_labels(names)
    assert got.known.all()
    assert (got.vectors * vectors).sum(1).min() >= 0.98
    np.testing.assert_allclose(np.linalg.norm(got.vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(centre(), vectors.mean(0), atol=1e-3)


@pytest.mark.parametrize("written, name", [
    ("Cat", "cat"), ("cats", "cat"), ("the cat", "cat"), ("fire_truck", "fire truck"), ("fire-trucks", "fire truck"),
    ("aeroplane", "airplane"), ("people", "person"), ("mice", "mouse (animal)"), ("knives", "knife"),
])
def test_spelling_is_forgiven(written, name):
    got = embed_labels([written])
    names, vectors = stored()
    assert got.known[0]
    assert got.nearest[0][0].split(" (")[0] == name.split(" (")[0]


@pytest.mark.parametrize("word, name", [("tabby", "cat"), ("sedan", "car"), ("ewe", "sheep"), ("sailor", "person")])
def test_other_nouns_land_on_the_right_name(word, name):
    got = embed_labels([word])
    assert not got.known[0]
    assert name in got.nearest[0][0]


def test_everyday_nouns_meet_the_bar():
    result = measure()
    assert result["nouns"] >= 200
    assert result["top1"] >= 75, result["missed"]


@pytest.mark.parametrize("labels, message", [
    ([], "at least one"), ("cat", "list of words"), (None, "list of words"), ([1], "label 0"), ([""], "label 0"),
    (["a" * 10**6], "at most 200 characters"), (["cat"] * 10_001, "at most 10000"),
])
def test_hostile_labels_are_one_line(labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        embed_labels(labels)
    assert "\n" not in str(caught.value)


def test_no_word_at_all_still_gets_a_unit_vector():
    got = embed_labels(["xqzzv", "日本"])
    assert not got.known.any()
    np.testing.assert_allclose(np.linalg.norm(got.vectors, axis=1), 1, atol=1e-5)


def test_pack_round_trip_and_strangers_files(tmp_path):
    vectors, known, nearest = embed_labels(["cat", "sedan"])
    path = LabelPack(names=["cat", "sedan"], vectors=vectors, known=known, nearest=nearest).save(tmp_path / "a.npz")
    back = LabelPack.load(path)
    np.testing.assert_array_equal(back.vectors, vectors)
    assert list(back.names) == ["cat", "sedan"] and back.known.tolist() == [True, False]
    np.savez(tmp_path / "bad.npz", names=np.array(["cat"], dtype=object), vectors=vectors[:1], space=np.array("x"))
    with pytest.raises(Exception, match="pickled"):
        LabelPack.load(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="NaN or infinity"):
        LabelPack(names=["cat"], vectors=np.full((1, 512), np.nan, np.float32))


def test_command_marks_approximate_words_and_writes_a_pack(tmp_path):
    done = CliRunner().invoke(words, ["cat,tabby", "-o", str(tmp_path / "labels.npz")])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("  cat") and lines[1].startswith("~ tabby")
    assert list(LabelPack.load(tmp_path / "labels.npz").names) == ["cat", "tabby"]


def test_table_is_small_and_needs_no_torch():
    assert (files("zeroseg") / "bundled" / "words.npz").stat().st_size <= 4 * 2**20
    code = "import sys; from zeroseg import embed_labels; embed_labels(['cat']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
