"""segment_labels: every segment's best label, by Triton's interpreter or on a GPU."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from zeroseg.kernels.mask_decode.segment_labels import BLOCK_N, segment_labels_triton  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("labels", [1, 3, BLOCK_N - 1, BLOCK_N, BLOCK_N + 1, 1200])
def test_labels_are_numpys(labels):
    scores = np.random.default_rng(labels).standard_normal((2, 8, labels)).astype(np.float32)
    scores[0, 0] = -5.0  # all tie, all below
    scores[1, 1, labels // 2 :] = 9.0  # the first of equals wins, in one block or several
    threshold = float(np.median(scores.max(2)))
    got = segment_labels_triton(torch.from_numpy(scores).to(DEVICE), threshold).cpu().numpy()
    np.testing.assert_array_equal(got, np.where(scores.max(2) >= threshold, scores.argmax(2), -1))
    everything = segment_labels_triton(torch.from_numpy(scores).to(DEVICE), float("-inf")).cpu().numpy()
    np.testing.assert_array_equal(everything, scores.argmax(2))
