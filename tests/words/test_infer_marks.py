"""What zeroseg-infer says of labels that are not known by heart."""

import numpy as np

from zeroseg import LabelPack, embed_labels
from zeroseg.commands.infer_run import approximate_words, guessed_words


def test_marks_tell_nouns_from_guesses():
    labels = ["cat", "tabby", "zorgblat"]
    vectors, known, nearest = embed_labels(labels)
    pack = LabelPack(labels, vectors, known=known, nearest=nearest)
    lines = list(approximate_words(pack))
    assert guessed_words(pack) == {"zorgblat"}
    assert lines[0].startswith("~ tabby: ") and "near cat, kitten, dog" in lines[0]
    assert lines[1].startswith("? zorgblat: no English noun") and len(lines) == 2


def test_a_pack_with_names_that_are_no_text_is_marked_too():
    pack = LabelPack(["...", "x" * 300, "cat"], np.eye(3, 512, dtype=np.float32), known=np.zeros(3, bool))
    assert guessed_words(pack) == {"...", "x" * 300}
    assert [line[0] for line in approximate_words(pack)] == ["?", "?", "~"]
