"""The comparison that decides about an export: its numbers on outputs made by hand, and its verdict."""

from dataclasses import replace

import numpy as np
import pytest

from zeroseg.errors import ZerosegError
from zeroseg.export.parity import Case, LabelSet, Parity, compare, draw_scene, make_cases, network_images
from zeroseg.runtime.base import Runner
from zeroseg.sidecar import parse_sidecar

SIDECAR = parse_sidecar(
    {
        "format": 2, "name": "test", "embedding_space": "s", "embedding_dim": 6, "segments": 2, "stride": 16,
        "input": {"short_side": 64, "multiple": 32, "max_long_side": 128, "mean": [0.5] * 3, "std": [0.5] * 3},
        "threshold": 0.5, "scoring": {"centre": None, "share": 0.0}, "files": {}, "card": {},
    },
    "test",
)  # fmt: skip


def scoring(label, score):
    """(6,) float32 of length 1, whose cosine with label's unit vector is score, and 0 with the other labels'."""
    embedding = np.zeros(6, np.float32)
    embedding[label], embedding[5] = score, np.sqrt(1 - score**2)
    return embedding


class Fixed(Runner):
    """Left half segment 0, right half segment 1; segment k scores 0.25 for label k, by a unit embedding of which the
    labels' vectors hold that much. `change` edits the outputs."""

    backend = "test"

    def __init__(self, change=lambda out: None):
        self.change = change

    def _run(self, image):
        batch = len(image)
        maps = np.zeros((batch, 2, 4, 8), np.float32)
        maps[:, 0, :, :4] = maps[:, 1, :, 4:] = 1
        embeddings = np.stack([scoring(0, 0.25), scoring(1, 0.25)])[None].repeat(batch, 0)
        out = {
            "segment_maps": maps,
            "segment_embeddings": embeddings,
            "image_embedding": np.ones((batch, 6), np.float32),
        }
        self.change(out)
        return out


CASES = [Case(np.zeros((2, 3, 64, 128), np.float32), (64, 128), np.eye(3, 6, dtype=np.float32), 0.5, 0.5)]


def compared(reference, candidate, cases=CASES):
    return compare(reference, candidate, cases, SIDECAR.scoring)


def cases_at(threshold):
    return [case._replace(threshold=threshold) for case in CASES]


def with_scores(first, second):
    """A change of Fixed: what the left and the right half score for their labels."""

    def change(out):
        out["segment_embeddings"][:, 0], out["segment_embeddings"][:, 1] = scoring(0, first), scoring(1, second)

    return change


def test_a_runner_agrees_with_itself():
    parity = compared(Fixed(), Fixed())
    assert parity.agreement == parity.worst == 1 and parity.photos == 2
    assert set(parity.max_abs.values()) == {0.0} and min(parity.cosine.values()) == pytest.approx(1)


def test_numbers_of_a_known_difference():
    def change(out):
        out["image_embedding"][0, 0] = 3.0

    parity = compared(Fixed(), Fixed(change), CASES)
    assert parity.max_abs == {"segment_maps": 0.0, "segment_embeddings": 0.0, "image_embedding": 2.0}
    assert parity.cosine["image_embedding"] == pytest.approx(14 / np.sqrt(12 * 20))
    assert "image_embedding of the exported file has a cosine of 0.90370" in replace(parity, telling=True).why_not()
    assert parity.agreement == 1  # no pixel depends on it


def test_moved_border_lowers_agreement_though_all_scores_are_below_the_threshold():
    def change(out):
        out["segment_maps"][0] = np.roll(out["segment_maps"][0], 1, axis=-1)

    parity = compared(Fixed(), Fixed(change), CASES)
    # of the first photo's eight columns, one on either side of the picture changes hands
    assert not parity.ok and parity.worst == pytest.approx(0.75, abs=0.05)
    assert parity.agreement == pytest.approx((1 + parity.worst) / 2)


def test_score_that_crosses_the_threshold_counts():
    def change(out):
        out["segment_embeddings"][:, 0] = scoring(0, 0.35)

    assert compared(Fixed(), Fixed(change), CASES).agreement == 1
    assert compared(Fixed(), Fixed(change), cases_at(0.3)).agreement == pytest.approx(0.5)


def test_threshold_amid_the_scores_counts_too():
    def change(out):
        out["segment_embeddings"][:, 0] = scoring(0, 0.35)

    amid = [case._replace(near=0.3) for case in CASES]
    assert compared(Fixed(), Fixed(change), amid).agreement == pytest.approx(0.5)


def test_segments_that_hang_on_rounding_do_not_count_and_are_told():
    """The left half scores 0.0004 more than the threshold; in float16 it may as well be less."""

    def change(out):
        out["segment_embeddings"][:, 0] = scoring(0, 0.2499)

    close = cases_at(0.2496)
    parity = compared(Fixed(), Fixed(change), close)
    assert parity.undecided == pytest.approx(1 / 3) and not parity.ok  # at one threshold of three nothing counts
    assert "depends on a score difference below 0.001" in replace(parity, telling=True).why_not()

    def lower(out):
        out["segment_embeddings"][:, 0] = scoring(0, 0.24)

    assert compared(Fixed(), Fixed(lower), cases_at(0.245)).agreement == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["segment_maps", "segment_embeddings", "image_embedding"])
def test_values_that_are_not_finite_are_no_agreement(name):
    def change(out):
        out[name].flat[0] = np.nan

    assert compared(Fixed(), Fixed(change), CASES).worst == 0


def test_other_shapes_are_named():
    def change(out):
        out["segment_maps"] = out["segment_maps"][..., :4]

    with pytest.raises(ZerosegError, match=r"segment_maps: expected \(2, 2, 4, 8\), the exported file gave"):
        compared(Fixed(), Fixed(change), CASES)


# Fixed's labels are 0 on the left half and 1 on the right; nothing to be wrong about: no foreground, no background,
# one label. Two photos or label sets may have between them what none has alone.
@pytest.mark.parametrize(
    "references, telling",
    [
        ([with_scores(0.25, 0.25)], False),
        ([with_scores(0.6, 0.6)], False),
        ([with_scores(0.6, 0.25)], False),
        ([with_scores(0.6, 0.6), with_scores(0.25, 0.25)], True),
        ([with_scores(0.6, 0.25), with_scores(0.25, 0.6)], True),
    ],
)
def test_cases_that_cannot_differ_are_no_agreement(references, telling):
    """Whatever the file gives for them."""

    class InTurns(Fixed):
        def _run(self, image):
            self.change = references[int(image[0, 0, 0, 0])]
            return super()._run(image)

    cases = [case._replace(image=case.image + i) for case in CASES for i in range(len(references))]
    parity = compared(InTurns(), InTurns(), cases)
    assert parity.agreement == 1 and parity.ok == parity.telling == telling
    if not telling:
        assert "use other photos (--photo, --gate-photos)" in parity.why_not()


def test_one_label_asked_for_cannot_be_several():
    """An engine may take one only."""
    one = [CASES[0]._replace(vectors=np.eye(1, 6, dtype=np.float32))]

    def change(out):
        out["segment_embeddings"][:, 0] = scoring(0, 0.6)

    assert compared(Fixed(change), Fixed(change), one).ok and not compared(Fixed(), Fixed(), one).ok


def test_nothing_to_compare_on_is_one_line():
    with pytest.raises(ZerosegError, match="no comparison possible: the exported file takes none of the images' sizes"):
        compared(Fixed(), Fixed(), [])


@pytest.mark.parametrize("agreement, ok", [(1.0, True), (0.995, True), (0.9949, False), (float("nan"), False)])
def test_verdict(agreement, ok):
    assert Parity(agreement, agreement, {}, {}, 1).ok == ok


SETS = [LabelSet(np.eye(count, 6, dtype=np.float32), 0.5, 0.5) for count in (3, 5)]


def test_cases_have_two_label_sets_several_sizes_and_a_batch():
    cases = make_cases(SIDECAR, network_images(SIDECAR, []), SETS)
    assert {(len(case.vectors), case.threshold) for case in cases} == {(3, 0.5), (5, 0.5)}
    assert {case.image.shape for case in cases} >= {(1, 3, 64, 96), (1, 3, 96, 64), (1, 3, 64, 64), (2, 3, 64, 96)}


def test_given_photos_are_used():
    photo = draw_scene(np.random.default_rng(1), (100, 200))
    assert photo.shape == (100, 200, 3) and photo.dtype == np.uint8 and photo.std() > 10
    assert {case.size for case in make_cases(SIDECAR, network_images(SIDECAR, [photo]), SETS)} == {(100, 200)}
