"""How zeroseg-infer marks labels that are not known names."""

import numpy as np
import pytest

from zeroseg import LabelPack, embed_labels
from zeroseg.commands.infer_run import approximate_words
from zeroseg.live.frame import Frame
from zeroseg.live.picture import legend_rows
from zeroseg.live.sinks import Output, frame_record
from zeroseg.segment.segmentation import Segmentation


def pack_of(*labels):
    return embed_labels(labels)


def test_marks_tell_nouns_from_guesses():
    pack = pack_of("cat", "tabby", "giraff")
    lines = list(approximate_words(pack))
    assert pack.marks == ["", "~", "?"]
    assert lines[0].startswith("~ tabby: ") and "near cat, kitten, dog" in lines[0]
    assert (
        lines[1].startswith("? giraff: not an English noun; its meaning is guessed, near giraffe") and len(lines) == 2
    )


@pytest.mark.parametrize("label", ["zorgblat", "кошка", "猫"])
def test_a_guess_out_of_nothing_has_no_neighbours(label):
    assert list(approximate_words(pack_of(label))) == [
        f"? {label}: unknown to the model, so it will hardly ever match (use English nouns, or --text NPZ)"
    ]


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("cat dog", "cat,dog"),
        ("dog cat bird", "dog,cat,bird"),
        ("cats and Dogs", "cats,Dogs"),
        ("cat/dog", "cat,dog"),
        ("tabby cat", None),
        ("old dog", None),
        ("a man with a hat", None),
        ("school bus driver", None),
        ("tabby", None),
    ],
)
def test_names_side_by_side_may_be_several_things(label, hint):
    [line] = approximate_words(pack_of(label))
    assert line.endswith(f'; if these are several things, write "{hint}"') if hint else "several" not in line


def test_a_pack_with_names_that_are_no_text_is_marked_too():
    names = ["...", "x" * 300, "...", "cat"]
    pack = LabelPack(names, np.eye(4, 512, dtype=np.float32), kind=["guess", "guess", "phrase", "noun"])
    assert [line[0] for line in approximate_words(pack)] == ["?", "?", "~", "~"]


def test_legends_and_json_mark_words_as_the_command_line_does():
    labels = ["cat", "tabby", "zorgblat"]
    pack = pack_of(*labels)
    label_map = np.repeat(np.array([0, 1, 1, 2, 2, 2], np.int16), 2)[None]
    result = Segmentation(
        image=np.zeros((1, 12, 3), np.uint8),
        label_map=label_map,
        confidence=np.ones((1, 12), np.float32),
        labels=labels,
        segment_labels=np.arange(3, dtype=np.int16),
        segment_scores=np.eye(3, dtype=np.float32),
        threshold=0.5,
        model="drawn",
        marks=pack.marks,
        nearest=pack.nearest,
    )
    rows = [text for _, text in legend_rows(result, result.colors)]
    assert rows == ["?zorgblat  1.00  50%", "~tabby  1.00  33%", "cat  1.00  17%"]
    assert result.approximate == [False, True, True]
    document = result.to_dict()
    assert [(entry["name"], entry["mark"], entry["approximate"]) for entry in document["labels"]] == [
        ("cat", "", False),
        ("tabby", "~", True),
        ("zorgblat", "?", True),
    ]
    assert [(entry["category"], entry["mark"]) for entry in document["found"]] == [
        ("zorgblat", "?"),
        ("tabby", "~"),
        ("cat", ""),
    ]
    record = frame_record(Output(Frame(result.image, 0, 0), result, None, {}))
    assert [(entry["label"], entry["mark"]) for entry in record["found"]] == [
        ("zorgblat", "?"),
        ("tabby", "~"),
        ("cat", ""),
    ]
