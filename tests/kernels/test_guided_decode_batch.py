"""mask_decode with a guide on batches of tensors: Triton against the NumPy reference, which SciPy checks elsewhere."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from zeroseg.kernels import _triton  # noqa: E402
from zeroseg.kernels._dispatch import last_impl  # noqa: E402
from zeroseg.kernels.mask_decode import Overlay, guided_triton  # noqa: E402
from zeroseg.kernels.mask_decode.batch import mask_decode_batch  # noqa: E402
from zeroseg.kernels.mask_decode.cases import CASES  # noqa: E402
from zeroseg.kernels.mask_decode.guided_reference import grid_of  # noqa: E402
from zeroseg.kernels.mask_decode.reference import _neighbours  # noqa: E402

pytestmark = pytest.mark.usefixtures("poison_torch")

ATOL = 2e-5  # float32 coefficients of up to 50, of maps of O(1)


def photos_of(batch, size, device):
    """Patches of colour with sharp borders, some grain."""
    blocks = torch.randint(0, 246, (batch, -(-size[0] // 23), -(-size[1] // 31), 3))
    photos = blocks.repeat_interleave(23, 1).repeat_interleave(31, 2)[:, : size[0], : size[1]]
    return (photos + torch.randint(0, 10, photos.shape)).to(torch.uint8).to(device)


def check(maps, table, guide, **options):
    size = tuple(guide.shape[1:3])
    got = mask_decode_batch(maps, table, size, "triton", guide=guide, **options)
    assert last_impl("mask_decode_batch") == "triton"
    truth = mask_decode_batch(maps, table, size, "reference", guide=guide, **options)
    torch.testing.assert_close(got[1], truth[1], atol=ATOL, rtol=0)
    same = got[0] == truth[0]
    assert same.double().mean() > 0.999
    for picture, expected in zip(got[2:], truth[2:]):
        assert (picture == expected)[same].all()


@pytest.mark.parametrize("name", CASES)
def test_matches_reference(name, device, monkeypatch):
    torch.manual_seed(3)
    case, batch = CASES[name], 2
    if _triton.interpreted():  # its time goes by segments and tiles, and then by the tiles' size
        if case.segments > 20:
            case = case._replace(segments=9, photo_size=tuple(side // 8 for side in case.photo_size))
        elif case.photo_size[0] > 200:
            case = case._replace(segments=2, photo_size=(case.photo_size[0] // 2, case.photo_size[1] // 2))
        rows, width = 2 * grid_of(case.photo_size).cell, max(case.photo_size[1], 2)
        tile = guided_triton.Launch(1 << (rows - 1).bit_length(), min(1024, 1 << (width - 1).bit_length()), 4)
        monkeypatch.setattr(guided_triton, "LAUNCH", tile)
        batch = 1 if case.photo_size[0] > 100 else 2
    maps = torch.randn(batch, case.segments, *case.maps_size).mul(3).softmax(1).to(device)
    table = torch.stack([torch.randperm(case.segments) - 1 for _ in range(batch)]).to(device)
    check(maps, table, photos_of(batch, case.photo_size, device))


@pytest.mark.parametrize("size", [(1, 40), (37, 2), (29, 61), (95, 90), (131, 181)])
def test_every_row_is_written(size, device):
    """Poisoned outputs at the smallest tiles: intervals of any length, none of them left out; views, no table."""
    maps = torch.randn(1, 2, 5, 8, device=device).transpose(2, 3)
    check(maps, None, photos_of(1, size, device).flip(2), threshold=0.2, label_dtype="uint8")


def test_longest_interval_fits_the_launch():
    for height in range(1, 700):
        grid = grid_of((height, 900))
        low = _neighbours(grid.rows, grid.rows * grid.cell)[0][:height].tolist()
        assert max(low.count(j) for j in set(low)) <= guided_triton.row_blocks(grid.rows, height, grid.cell, 8) * 8


def test_overlay(device):
    maps, guide = torch.randn(2, 5, 6, 5, device=device).softmax(1), photos_of(2, (17, 41), device)
    colors = torch.randint(0, 256, (3, 3), dtype=torch.uint8, device=device)
    table = torch.tensor([[0, 1, 2, 3, -1]] * 2, device=device)
    check(maps, table, guide, overlay=Overlay(guide, colors, 0.3))


def test_bad_guide_is_named():
    with pytest.raises(ValueError, match=r"guide: expected \(2, 9, 9, 3\) uint8, got \(2, 9, 8, 3\) uint8"):
        mask_decode_batch(torch.zeros(2, 3, 4, 4), None, (9, 9), guide=torch.zeros(2, 9, 8, 3, dtype=torch.uint8))
