"""The model that is shipped: made from the model.pt beside it, and good enough to find a cat."""

from pathlib import Path

import numpy as np
import pytest

from zeroseg import Segmenter
from zeroseg.artifact import BUNDLED, DEFAULT_MODEL
from zeroseg.export.parity import REQUIRED

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "models" / DEFAULT_MODEL / "model.pt"
PHOTOS = sorted((ROOT / "docs/photos").glob("*.jpg"))
LABELS = ["cat", "person", "cup", "rocket", "sofa"]
SCORE_ATOL = 1e-4  # float32 of two implementations; rounded weights move scores by 0.004

pytestmark = pytest.mark.skipif(
    not (BUNDLED / f"{DEFAULT_MODEL}.onnx").is_file(), reason="this checkout has no bundled model"
)


@pytest.fixture(scope="module")
def bundled():
    return Segmenter.load(threads=1).set_labels(LABELS)


@pytest.fixture(scope="module")
def trained():
    for package in ("torch", "timm"):
        pytest.importorskip(package)
    return Segmenter.load(CHECKPOINT, threads=1).set_labels(LABELS)


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.stem)
def test_it_is_the_checkpoint_exported(bundled, trained, photo):
    got, expected = (segmenter.segment(photo, threshold=-1) for segmenter in (bundled, trained))  # every segment named
    np.testing.assert_allclose(got.segment_scores, expected.segment_scores, atol=SCORE_ATOL)
    assert (got.label_map == expected.label_map).mean() >= REQUIRED


def test_it_says_of_itself_what_the_checkpoint_says(bundled, trained):
    for name in ("name", "embedding_space", "embedding_dim", "segments", "stride", "input", "threshold", "card"):
        assert getattr(bundled.sidecar, name) == getattr(trained.sidecar, name), name


def test_it_finds_the_cat(bundled):
    found = bundled.segment(ROOT / "docs/photos/chelsea.jpg").found
    assert found[0].label == "cat" and found[0].area > 0.5
