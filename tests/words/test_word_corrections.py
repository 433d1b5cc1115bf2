"""What WordNet and spelling correct in a noun's direction, against hand-made directions and the bundled table."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the builder needs scipy")

sys.path.insert(0, str(Path(__file__).parent))

from tiny_wordnet import NAMES, SYNSETS, write_wordnet  # noqa: E402

from zeroseg import embed_labels  # noqa: E402
from zeroseg.training.words.corrections import LEAD, Corrections, share_letters  # noqa: E402
from zeroseg.training.words.wordnet_reader import WordNet  # noqa: E402

BY_NAME = {words[0]: id for id, (_, words, _, _) in reversed(SYNSETS.items())}


def corrected(tmp_path, key, direction, more=()):
    """The correction of one direction, given and returned as name -> weight; the names' directions are the axes."""
    SYNSETS.update(more)
    try:
        wordnet = WordNet(write_wordnet(tmp_path / f"wordnet of {key}"))
    finally:
        for id in dict(more):
            del SYNSETS[id]
    corrections = Corrections(wordnet, NAMES, np.eye(len(NAMES)), [BY_NAME[name] for name in NAMES])
    row = np.array([direction.get(name, 0.0) for name in NAMES])
    result = corrections([key], [key.replace(" ", "_")], row[None] / np.linalg.norm(row))[0]
    assert np.linalg.norm(result) == pytest.approx(1)
    return {name: value for name, value in zip(NAMES, result.tolist()) if abs(value) > 1e-9}


def test_the_name_above_leads_names_of_another_kind(tmp_path):
    # by hand: person must be LEAD ahead of the 0.8 of the vehicle before the length is 1 again
    got = corrected(tmp_path, "sailor", {"vehicle": 0.8, "person": 0.6})
    length = np.hypot(0.8, 0.8 + LEAD)
    assert got == pytest.approx({"vehicle": 0.8 / length, "person": (0.8 + LEAD) / length})


def test_a_direction_that_its_own_kind_leads_stays(tmp_path):
    for noun, direction in {"sailor": {"vehicle": 0.6, "person": 0.8}, "tabby": {"dog": 0.8, "cat": 0.6}}.items():
        assert corrected(tmp_path, noun, direction) == pytest.approx(direction)


def test_a_name_that_only_shares_letters_is_taken_out(tmp_path):
    more = {"00000018": (17, ["carst"], "00000001", "holed land"), "00000019": (17, ["moor"], "00000001", "wet land")}
    direction = {"car": 0.8, "tree": 0.6}
    assert corrected(tmp_path, "carst", direction, more) == pytest.approx({"tree": 1})
    assert corrected(tmp_path, "moor", direction, more) == pytest.approx(direction)


def test_persons_beside_person_are_put_below_it(tmp_path):
    more = {
        "00000018": (3, ["agent"], "00000001", "acts"),
        "00000019": (18, ["operator"], "00000018", "who runs"),
        "00000020": (18, ["driver"], "00000019", "who drives"),
        "00000021": (18, ["ghost"], "00000009", "is none"),
    }
    got = corrected(tmp_path, "driver", {"car": 0.8, "person": 0.6}, more)
    assert max(got, key=got.get) == "person"
    wordnet = WordNet(tmp_path / "wordnet of driver")
    assert wordnet.ancestors("00000020")["00000006"] == 2
    assert "00000006" not in wordnet.ancestors("00000021")


@pytest.mark.parametrize(
    "key, name, shared",
    [
        ("river", "river boat", True),
        ("iceberg", "ice maker", True),
        ("desert", "dessert", True),
        ("wigwam", "wig", True),
        ("taxi driver", "taxi", True),
        ("old car driver", "car", True),
        ("grocery bag", "bag", False),
        ("road map", "map", False),
        ("red paper cup", "paper cup", True),
        ("hedge", "door", False),
        ("axle", "ax", False),
    ],
)
def test_sharing_letters(key, name, shared):
    assert share_letters(key, name) is shared


@pytest.mark.parametrize("word", ["driver", "bus driver", "tractor driver", "jockey", "violinist", "horse rider"])
def test_people_land_on_people(word):
    assert embed_labels([word]).nearest[0][0] in {"person", "man", "woman"}


@pytest.mark.parametrize(
    "word, not_near",
    [
        ("river", "river boat"),
        ("road", "road map"),
        ("lawn", "lawn mower"),
        ("desert", "dessert"),
        ("firewood", "fire truck"),
    ],
)
def test_a_word_is_not_the_compound_that_it_begins(word, not_near):
    assert not_near not in embed_labels([word]).nearest[0]
