"""The band along the masks' borders against SciPy's distance transform."""

import numpy as np
import pytest

from zeroseg.evaluation.borders import near_borders
from zeroseg.evaluation.evaluate import evaluate
from zeroseg.evaluation.folders import MaskFolder
from zeroseg.evaluation.metrics import confusion_matrix, mean_iou
from zeroseg.evaluation.protocol import ProtocolConfig


def by_scipy(truth, reach_px):
    ndimage = pytest.importorskip("scipy.ndimage")
    cross = ndimage.generate_binary_structure(2, 1)
    border = ndimage.grey_dilation(truth, footprint=cross) != ndimage.grey_erosion(truth, footprint=cross)
    return ndimage.distance_transform_edt(~border) <= reach_px if border.any() else border


@pytest.mark.parametrize("reach_px", [0, 1, 3, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (5, 90), (61, 47)])
def test_band_equals_the_distance_transform(size, reach_px):
    random = np.random.default_rng(reach_px)
    for blocks in (1, 2, 5):
        truth = random.choice([0, 3, 255], (blocks, blocks))
        truth = truth.repeat(-(-size[0] // blocks), 0).repeat(-(-size[1] // blocks), 1)[: size[0], : size[1]]
        np.testing.assert_array_equal(near_borders(truth, reach_px), by_scipy(truth, reach_px))


class Photos(MaskFolder):
    """Two halves, and a photo of two colours that part where the mask does."""

    def __len__(self):
        return 1

    def load(self, index):
        truth = np.zeros((120, 160), np.uint8)
        truth[:, 100:] = 1
        return np.where(truth[..., None] == 1, (40, 120, 200), (200, 120, 40)).astype(np.uint8), truth


def test_report_has_the_band_and_edges_improve_it():
    """The maps part ten columns beside the truth: bilinear masks follow them, with edges the photo."""
    folder = Photos("halves", (), (), ("background", "cat"), ("background", "cat"), 0, np.arange(256, dtype=np.int16))
    cat = np.zeros((24, 32), np.float32)
    cat[:, 22:] = 1
    outputs = {"segment_maps": np.stack([1 - cat, cat]), "segment_scores": np.float32([[0.1], [0.9]])}
    found = {}
    for edges in (False, True):
        config = ProtocolConfig(threshold=0.5, edges=edges)
        seen = []
        report = evaluate(lambda *a: outputs, folder, config, on_photo=lambda *photo, seen=seen: seen.append(photo))
        result, truth = report.summary(), folder.load(0)[1]
        band = by_scipy(truth, 8)
        assert result["miou_near_borders"] == mean_iou(confusion_matrix(truth[band], seen[0][3][band], 2))
        assert result["near_borders_px"] == 8 and result["config"]["edges"] is edges
        assert ("masks follow the photo's edges" in report.table()) is edges
        found[edges] = result["miou"], result["miou_near_borders"]
    assert found[False] == pytest.approx(((100 / 110 + 50 / 60) / 2, (9 / 18 + 0) / 2))  # 9 columns a side
    assert found[True][0] > 0.98 and found[True][1] > 0.9
