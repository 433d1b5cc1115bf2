import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from zeroseg.errors import ZerosegError
from zeroseg.training.batches import Schedule, TrainingSet, split_rows, validation_batch
from zeroseg.training.crops import sample_places
from zeroseg.training.photos import find_photos
from zeroseg.training.recipes import CropConfig, ViewConfig
from zeroseg.training.stem_cache import cache_stem, plan_sizes
from zeroseg.training.teacher import Teacher
from zeroseg.training.views import cache_views, cut_views, grid_boxes

PAPER_GRIDS = (1, 2, 3, 4)


class MeanColour(Teacher):
    """A teacher whose embedding of anything is its mean colour."""

    spec, space, dim, view_size, has_dense = "test:colour", "rgb", 3, 8, True

    def __init__(self, has_dense=True):
        self.has_dense, self.fingerprint, self.calls = has_dense, {"test": "colour"}, 0

    def embed(self, crops):
        self.calls += 1
        return crops.mean((2, 3))

    def dense_size(self, size):
        return 16, 16

    def dense(self, images):
        return images.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)).permute(0, 2, 3, 1)


def test_grid_boxes_are_the_paper_s_thirty_views():
    boxes = grid_boxes(PAPER_GRIDS)
    assert boxes.shape == (30, 4) and boxes[0].tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(boxes[1:5], [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]])
    start = 0
    for g in PAPER_GRIDS:  # every grid tiles the square
        cells = boxes[start : start + g * g]
        assert np.isclose(((cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])).sum(), 1)
        start += g * g


def test_views_are_cut_from_the_centre_square():
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, 4:8], pixels[4:, 8:12] = (255, 0, 0), (0, 0, 255)
    pixels[:, :4] = pixels[:, 12:] = 99  # outside the square
    views = cut_views(Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)), (1, 2), 32)
    means = views.mean((2, 3))
    np.testing.assert_allclose(means[0], [0.25, 0, 0.25], atol=0.02)
    np.testing.assert_allclose(means[1:], [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]], atol=0.02)


def test_cache_holds_what_the_teacher_says_and_is_made_once(photo_folder, tmp_path):
    photos, teacher = find_photos(photo_folder), MeanColour()
    cache = cache_views(photos, teacher, ViewConfig((1, 2), 4), tmp_path, progress=False)
    assert cache.views.shape == (24, 5, 3) and cache.dense.shape == (24, 4, 4, 3) and len(cache.rows) == 24
    image = photos.read(5)
    wanted = cut_views(image, (1, 2), 8).mean((2, 3))
    np.testing.assert_allclose(cache.views[5], wanted, atol=1e-3)
    # a cell of the map is the mean of its part of the whole photo
    width, height = image.size
    cell = np.asarray(image.resize((1, 1), Image.Resampling.BOX, (width / 4, 0, width / 2, height / 4))) / 255
    np.testing.assert_allclose(cache.dense[5, 0, 1], cell[0, 0], atol=0.08)
    calls = teacher.calls
    cache_views(photos, teacher, ViewConfig((1, 2), 4), tmp_path, progress=False)
    assert teacher.calls == calls == 24


def test_a_killed_job_goes_on_and_unreadable_photos_are_named(photo_folder, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    for name in ("a/zz.jpg", "b/broken.png"):
        (folder / name).write_bytes(b"junk")
    photos, teacher = find_photos(folder), MeanColour()
    read = type(photos).read

    def killed(self, index):
        if index == 10:
            raise KeyboardInterrupt
        return read(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(photos), "read", killed)
        with pytest.raises(KeyboardInterrupt):
            cache_views(photos, teacher, ViewConfig((1,), 0), tmp_path / "cache", progress=False)
    assert teacher.calls == 10
    cache = cache_views(photos, teacher, ViewConfig((1,), 0), tmp_path / "cache", progress=False)
    assert teacher.calls == 24 and cache.dense is None
    assert {photos.names[i] for i in set(range(26)) - set(cache.rows)} == {"a/zz.jpg", "b/broken.png"}
    assert cache.unreadable == ["a/zz.jpg", "b/broken.png"]


def test_a_changed_folder_is_noticed(photo_folder, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    cache_views(find_photos(folder), MeanColour(), ViewConfig((1,), 0), tmp_path / "cache", progress=False)
    (first,) = (tmp_path / "cache").iterdir()
    (folder / "a/01.jpg").unlink()
    second = cache_views(find_photos(folder), MeanColour(), ViewConfig((1,), 0), tmp_path / "cache", progress=False)
    assert len(second.rows) == 23
    assert f"differ from those of {first.name}" in capsys.readouterr().err


def test_no_readable_photo_and_no_dense_map_are_one_line(photo_folder, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.jpg").write_bytes(b"junk")
    with pytest.raises(ZerosegError, match="none of the 1 files"):
        cache_views(find_photos(tmp_path / "photos"), MeanColour(), ViewConfig((1,), 0), tmp_path, progress=False)
    with pytest.raises(ZerosegError, match="has no dense maps"):
        cache_views(find_photos(photo_folder), MeanColour(False), ViewConfig((), 4), tmp_path, progress=False)


class Halves(torch.nn.Module):
    """A stem of two average pools."""

    def forward(self, image):
        pool = torch.nn.functional.avg_pool2d
        return pool(image, 16), pool(image, 32)


@pytest.fixture
def stem_buckets(photo_folder, tmp_path):
    photos = find_photos(photo_folder)
    config = CropConfig(sizes=((64, 64), (64, 96)), jitter=0.0)
    make = dict(per_photo=3, config=config, seed=1, root=tmp_path, fingerprint="halves", impl="torch", progress=False)
    return photos, cache_stem(photos, Halves(), (0.5,) * 3, (0.5,) * 3, **make), make


def test_stem_cache_holds_the_features_of_its_boxes(stem_buckets):
    photos, buckets, make = stem_buckets
    sizes = plan_sizes(24, 3, make["config"], 1)
    assert [bucket.size for bucket in buckets] == [(64, 64), (64, 96)]
    for number, bucket in enumerate(buckets):
        height, width = bucket.size
        assert len(bucket.photo) == (sizes == number).sum() == len(bucket.rows)
        assert bucket.fine.shape[1:] == (3, height // 16, width // 16) and bucket.fine.dtype == np.float16
        for row in range(0, len(bucket.photo), 7):
            image = photos.read(bucket.photo[row])
            box = np.array(bucket.box[row]) * (image.size * 2)
            crop = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, tuple(box)), np.float32)
            crop = crop[:, ::-1] if bucket.flip[row] else crop
            fine, coarse = Halves()(torch.from_numpy(crop.copy()).permute(2, 0, 1)[None] / 127.5 - 1)
            np.testing.assert_allclose(bucket.fine[row], fine[0], atol=0.01)
            np.testing.assert_allclose(bucket.coarse[row], coarse[0], atol=0.01)


def test_cached_batches_carry_the_targets_of_their_boxes(stem_buckets, photo_folder, tmp_path, dense_config):
    photos, buckets, make = stem_buckets
    cache = cache_views(photos, MeanColour(), ViewConfig((), 4), tmp_path, progress=False)
    data = TrainingSet(photos, cache, cache.rows[:20], dense_config, 30, 16, buckets)
    seen = set()
    for step in range(30):
        batch = data[step]
        number, rows = data.schedule[step]
        bucket = buckets[number]
        assert set(bucket.photo[rows]) <= set(range(20)) and len(batch) == 8
        np.testing.assert_array_equal(batch.stem[0], bucket.fine[rows].astype(np.float32))
        dense = torch.from_numpy(cache.dense[bucket.photo[rows]])
        wanted = sample_places(
            dense, torch.from_numpy(bucket.box[rows]), torch.from_numpy(bucket.flip[rows] > 0), batch.grid
        )
        torch.testing.assert_close(batch.dense, wanted)
        seen |= {(number, row) for row in rows}
    assert len(seen) == sum((bucket.photo < 20).sum() for bucket in buckets)  # every crop was used


def test_decoded_batches_are_those_of_their_step_and_split_over_processes(photo_folder, tmp_path, dense_config):
    photos = find_photos(photo_folder)
    cache = cache_views(photos, MeanColour(), ViewConfig((1,), 4), tmp_path, progress=False)
    whole = TrainingSet(photos, cache, cache.rows, dense_config, 5, 16)
    halves = [TrainingSet(photos, cache, cache.rows, dense_config, 5, 16, None, rank, 2) for rank in (0, 1)]
    for step in (3, 0):
        a, parts = whole[step], [half[step] for half in halves]
        for name in ("image", "views", "dense"):
            assert torch.equal(getattr(a, name), torch.cat([getattr(part, name) for part in parts])), name
        assert torch.equal(a.image, whole[step].image)
    batch = validation_batch(photos, cache, cache.rows[:3], dense_config, 16)
    image = photos.read(1)
    side = min(image.size)
    left, top = (image.size[0] - side) / 2, (image.size[1] - side) / 2
    square = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR, (left, top, left + side, top + side)))
    np.testing.assert_allclose(batch.image[1], square.transpose(2, 0, 1) / 127.5 - 1, atol=1e-5)


def test_schedule_goes_through_every_row_before_it_repeats_one():
    schedule = Schedule([np.arange(10, 17), np.arange(3)], 4, 40, seed=0)
    for bucket, rows in enumerate(schedule.rows):
        order = np.concatenate([schedule[step][1] for step in range(40) if schedule.bucket[step] == bucket])
        for lap in range(len(order) // len(rows)):
            assert sorted(order[lap * len(rows) : (lap + 1) * len(rows)]) == list(rows)
    longer = Schedule([np.arange(10, 17), np.arange(3)], 4, 80, seed=0)
    for step in range(40):  # more epochs do not change the first ones
        assert schedule[step][0] == longer[step][0] and (schedule[step][1] == longer[step][1]).all()


def test_held_out_photos_are_few_and_apart():
    train, held = split_rows(np.arange(5, 105), 64, seed=0)
    assert len(held) == 10 and len(train) == 90 and sorted([*train, *held]) == list(range(5, 105))
