"""mask_decode on batches of tensors: Triton and the reference against torch's interpolate and argmax, on cases.py."""

from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from zeroseg.errors import UnavailableError  # noqa: E402
from zeroseg.kernels import _triton  # noqa: E402
from zeroseg.kernels._dispatch import last_impl  # noqa: E402
from zeroseg.kernels.mask_decode import (  # noqa: E402
    Overlay,
    triton_impl,
)
from zeroseg.kernels.mask_decode.batch import mask_decode_batch, stage_maps  # noqa: E402
from zeroseg.kernels.mask_decode.cases import CASES  # noqa: E402

pytestmark = pytest.mark.usefixtures("poison_torch")

ATOL = 3e-6  # float32, maps of O(1), two products of two weights each
IMPLS = ["triton", "reference"]


@pytest.fixture
def large_tiles(monkeypatch):
    """The interpreter's time goes by the number of tiles."""
    if _triton.interpreted():
        monkeypatch.setattr(triton_impl, "LAUNCH", triton_impl.Launch(BLOCK_H=128, BLOCK_W=1024, num_warps=4))


class Decoded(NamedTuple):
    labels: torch.Tensor
    confidence: torch.Tensor
    picture: torch.Tensor | None = None


def soft_maps(batch, segments, height, width, device):
    return torch.randn(batch, segments, height, width).mul(3).softmax(1).to(device)


def run(maps, table, size, impl, **options):
    result = Decoded(*mask_decode_batch(maps, table, size, impl, **options))
    assert last_impl("mask_decode_batch") == impl
    return result


def check(maps, table, size, impl, **options):
    got = run(maps, table, size, impl, **options)
    full = torch.nn.functional.interpolate(maps.double(), size=size, mode="bilinear", align_corners=False)
    best = full.topk(min(2, full.shape[1]), dim=1).values
    torch.testing.assert_close(got.confidence, best[:, 0].float(), atol=ATOL, rtol=0)
    clear = best[:, 0] - best[:, -1] > 2 * ATOL if full.shape[1] > 1 else torch.ones_like(best[:, 0], dtype=torch.bool)
    winner = full.argmax(1)
    expected = winner if table is None else table.gather(1, winner.flatten(1)).view_as(winner)
    assert (got.labels.int()[clear] == expected[clear]).all()
    assert clear.double().mean() > 0.99
    return got


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", CASES)
def test_matches_torch(name, impl, device, request):
    case, batch = CASES[name], 2
    if case.segments * case.photo_size[0] > 2000:
        request.getfixturevalue("large_tiles")
        batch = 1
    if _triton.interpreted():  # its time goes by segments and rows of the maps too
        case = case._replace(segments=3) if case.photo_size[0] > 200 else case
        batch = 1 if case.segments * case.maps_size[0] > 100 else batch
    table = torch.stack([torch.randperm(case.segments) - 1 for _ in range(batch)]).to(device)
    check(soft_maps(batch, case.segments, *case.maps_size, device), table, case.photo_size, impl)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("rows", "height"), [(2, 1), (2, 37), (3, 100), (14, 15), (31, 16), (5, 160)])
def test_every_row_is_written(rows, height, impl, device):
    """Poisoned outputs: intervals of any length, none of them left out."""
    check(soft_maps(1, 2, rows, 3, device), None, (height, 5), impl)


def test_longest_interval_fits_the_launch():
    for rows in range(1, 12):
        for height in range(1, 70):
            low = [
                min(max(int(((2 * y + 1) * rows - height) // (2 * height)), 0), max(rows - 2, 0)) for y in range(height)
            ]
            assert max(low.count(j) for j in low) <= triton_impl.row_blocks(rows, height, 16) * 16


@pytest.mark.parametrize("impl", IMPLS)
def test_accepts_views_of_any_stride(impl, device):
    maps = soft_maps(2, 10, 14, 22, device)[:, ::2, :, ::2].transpose(2, 3)
    check(maps, torch.arange(20, device=device).view(2, 10)[:, ::2], (33, 47), impl)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("kind", "background"), [("int16", -1), ("uint8", 255), ("uint16", 65535)])
def test_dense_logits_with_a_threshold(kind, background, impl, device):
    """Labels stream one by one; a negative best logit is background."""
    logits = torch.randn(2, 25, 4, 7, device=device) - 1.5
    got = run(logits, None, (23, 31), impl, threshold=0.0, label_dtype=kind)
    full = torch.nn.functional.interpolate(logits, size=(23, 31), mode="bilinear", align_corners=False)
    best, winner = full.max(1)
    assert str(got.labels.dtype) == f"torch.{kind}"
    expected = torch.where(best < 0, background, winner)
    agree = (got.labels.int() == expected) | (best.abs() < ATOL)
    assert agree.double().mean() > 0.999 and 0.01 < (best < 0).double().mean() < 0.9


@pytest.mark.parametrize("impl", IMPLS)
def test_background_of_the_table(impl, device):
    maps, table = soft_maps(1, 3, 4, 4, device), torch.tensor([[-1, 0, 254]], device=device)
    labels = run(maps, table, (19, 21), impl, label_dtype="uint8").labels
    assert set(labels.unique().tolist()) == {0, 254, 255}


@pytest.mark.parametrize("impl", IMPLS)
def test_lowest_segment_wins_a_tie(impl, device):
    maps = torch.full((1, 3, 4, 4), 1 / 3, device=device)
    labels = run(maps, torch.tensor([[7, 8, 9]], device=device), (9, 9), impl).labels
    assert (labels == 7).all()


@pytest.mark.parametrize("kind", ["int16", "uint8"])
def test_overlay_matches_the_formula(kind, device):
    """Tinted where the label has a colour; label 3 has none and background never has."""
    maps, table = soft_maps(2, 5, 6, 5, device), torch.tensor([[0, 1, 2, 3, -1], [3, 2, 1, 0, -1]], device=device)
    image = torch.randint(0, 256, (2, 37, 41, 3), dtype=torch.uint8, device=device)
    colors = torch.randint(0, 256, (3, 3), dtype=torch.uint8, device=device)
    got = run(maps, table, (37, 41), "triton", label_dtype=kind, overlay=Overlay(image, colors, 0.3))
    alpha, labels = round(0.3 * 255), got.labels.int()
    flat = colors[labels.clamp(0, 2)]
    blended = (image.double() * (255 - alpha) + flat.double() * alpha) / 255
    expected = torch.where(((labels >= 0) & (labels < 3))[..., None], (blended + 0.5 - 1e-9).floor(), image.double())
    assert (got.picture.double() == expected).all()
    assert (got.picture != image).any() and (labels == 3).any()


def test_stage_maps_are_the_product():
    stages = [torch.rand(2, 12, 5).softmax(-1), torch.rand(2, 5, 3).softmax(-1)]
    maps = stage_maps(stages, (3, 4))
    assert maps.shape == (2, 3, 3, 4)
    for place in range(12):
        expected = sum(stages[0][1, place, s] * stages[1][1, s] for s in range(5))
        torch.testing.assert_close(maps[1, :, place // 4, place % 4], expected)


def test_explicit_impl_that_cannot_run_raises(monkeypatch):
    monkeypatch.setattr(_triton, "interpreted", lambda: False)
    with pytest.raises(UnavailableError, match="impl='triton' cannot run here"):
        mask_decode_batch(torch.zeros(1, 2, 3, 3), None, (4, 4), "triton")


MAPS, TABLE = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("maps", "table", "size", "options", "message"),
    [
        (MAPS[0], TABLE, (9, 9), {}, r"maps: expected \(B, K, h, w\) float32"),
        (MAPS[:, :0], None, (9, 9), {}, "no empty axis"),
        (MAPS, TABLE[:, :1], (9, 9), {}, r"table: expected \(1, 2\)"),
        (MAPS, TABLE.float(), (9, 9), {}, "table: expected .* int64"),
        (MAPS, TABLE, (9, 0), {}, "size: expected"),
        (MAPS, TABLE, (9, 9), {"label_dtype": "int8"}, "label_dtype: expected one of"),
        (MAPS, TABLE, (9, 9), {"threshold": float("nan")}, "threshold: expected a number"),
        (torch.zeros(1, 256, 1, 1), None, (9, 9), {"label_dtype": "uint8"}, "at most 255 labels for uint8, got 256"),
        (MAPS, TABLE, (9, 9), {"overlay": Overlay(torch.zeros(1, 9, 8, 3), TABLE, 0.5)}, "overlay.image: expected"),
        (MAPS, TABLE, (2**27, 9), {"impl": "triton"}, "too large for 32-bit indices"),
    ],
)
def test_bad_input_is_named(maps, table, size, options, message):
    with pytest.raises(ValueError, match=message):
        mask_decode_batch(maps, table, size, **options)
