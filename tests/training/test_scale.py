"""Projections are products of what was measured; FLOPs are those of the formulas."""

import pytest
import torch
from click.testing import CliRunner

from zeroseg.training.photos import find_photos
from zeroseg.training.scale import count_flops, main, measure_photos, project
from zeroseg.training.views import cache_views


def test_flops_are_the_formulas():
    length, width = 12, 32
    x = torch.randn(1, length, width)
    attention = torch.nn.MultiheadAttention(width, 4, batch_first=True).eval()
    with torch.no_grad():
        got = count_flops(lambda: attention(x, x, x, need_weights=False))
    assert got == 2 * (4 * length * width**2 + 2 * length**2 * width)
    linear = torch.nn.Linear(width, 8)
    # forward, and backward to the weights only: the input has no gradient
    assert count_flops(lambda: linear(x).sum().backward()) == 2 * 2 * length * width * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_photos_are_weighed(photo_folder):
    found = find_photos(photo_folder)
    sizes = [(found.root / name).stat().st_size for name in found.names]
    unit = measure_photos(str(photo_folder))
    assert unit["photo_bytes"] == pytest.approx(sum(sizes) / 24)
    assert unit["shard_bytes"] == pytest.approx(sum(512 + -(-size // 512) * 512 for size in sizes) / 24)
    assert unit["photo_megapixels"] == pytest.approx((16 * 72 * 56 + 8 * 48 * 64) / 24 / 1e6)
    assert unit["decode_s"] > 0 and unit["cut_views_s"] > 0


UNIT = {
    "photo_bytes": 1000.0,
    "shard_bytes": 2000.0,
    "decode_s": 0.01,
    "cut_views_s": 0.08,
    "weights": 5_000_000,
    "step_flops": 2e10,
    "step_s": 0.5,
    "update_s": 8.0,
    "batch": 16,
    "views": 30,
    "views_bytes": 46_085,
    "view_flops": 1e11,
    "view_s": 2.0,
}


def test_hours_bytes_and_traffic_are_products():
    row = project(UNIT, 3600, 10, peak=50, utilisation=0.4)
    wanted = {
        "steps": 2250,
        "student core-hours": 10.0,
        "teacher core-hours": 60.0,
        "decoding core-hours": 0.19,
        "student EFLOP": 7.2e-4,
        "teacher EFLOP": 0.0108,
        "photos TB": 3.6e-6,
        "shards TB": 7.2e-6,
        "cached views TB": 1.65906e-4,
        "read in training TB": 1.73106e-3,
        "gradients per process and step MB": 40.0,
        "assumed: student hours": 0.01,
        "assumed: teacher hours": 0.15,
        "assumed: photos/s": 1000.0,
        "assumed: read MB/s": 48.085,
        "assumed: decoding cores": 10.0,
    }
    assert row == pytest.approx({"photos": 3600, "epochs": 10} | wanted)
    assert not [name for name in project(UNIT, 3600, 10) if name.startswith("assumed")]


def test_a_photo_takes_in_the_cache_what_is_said(photo_folder, tmp_path, teacher_config, labels):
    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.recipes import ViewConfig
    from zeroseg.training.scale import ROW_BYTES

    cache_views(find_photos(photo_folder), build_teacher(teacher_config, labels), ViewConfig(), tmp_path, False)
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*.bin"))
    assert stored == 24 * (2 * 30 * 16 + ROW_BYTES)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--count", "5"], "--count and --epochs: expected as many of both, got 1 and 0"),
        ([], "photos: /nowhere is not a folder"),
    ],
)
def test_bad_input_is_one_line(args, message):
    result = CliRunner().invoke(main, ["/nowhere", *args])
    assert result.exit_code == 1 and result.output == f"Error: {message}\n"
