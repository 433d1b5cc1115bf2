"""Training from shards: each photo once an epoch, the folder's embeddings, bit-equal resume within an epoch, damage."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.training.test_distill import ROOT, assert_equal, paper_config, run, weights
from tests.training.test_views import MeanColour
from zeroseg.collection.pack import pack
from zeroseg.collection.plan import open_plan
from zeroseg.errors import ZerosegError
from zeroseg.training.batches import TrainingSet
from zeroseg.training.photos import find_photos
from zeroseg.training.processes import Processes
from zeroseg.training.recipes import TrainConfig, ViewConfig
from zeroseg.training.run_folder import read_curve
from zeroseg.training.shards import Shard, ShardCache, ShardOrder, ShardSet, cache_shards, find_shards, holds_shards
from zeroseg.training.views import Facts, cache_views

ALONE = Processes(0, 1, torch.device("cpu"))
VIEWS = ViewConfig((1, 2), 4)
CONFIG = replace(TrainConfig(), batch=6, val_photos=3, shuffle_shards=2, views=VIEWS)


@pytest.fixture(scope="session")
def shard_folder(photo_folder, tmp_path_factory):
    """The 24 photos in shards of 7, 7, 7 and 3."""
    out = tmp_path_factory.mktemp("shards")
    pack(open_plan(out, [photo_folder], 7))
    return out


@pytest.fixture
def shards(shard_folder, tmp_path):
    """A copy of them, which a test may change."""
    shutil.copytree(shard_folder, tmp_path / "shards")
    return tmp_path / "shards"


def opened(root, kept=3):
    photos = find_shards(root, kept)
    return photos, cache_shards(photos, MeanColour(), VIEWS, root / "cache", ALONE, progress=False)


def names(photos) -> list[str]:
    return [photos.open(shard).photos[place].path for shard, place in map(photos.place, range(len(photos)))]


def test_embeddings_are_those_of_the_folder(shards, photo_folder, tmp_path):
    photos, cache = opened(shards)
    folder = find_photos(photo_folder)
    wanted = cache_views(folder, MeanColour(), VIEWS, tmp_path / "whole", progress=False)
    assert holds_shards(shards) and not holds_shards(photo_folder) and len(photos) == len(folder) == 24
    for row in range(24):
        assert photos.read(row).tobytes() == folder.read(row).tobytes()
    rows = np.array([23, 0, 7, 6, 13])
    np.testing.assert_array_equal(cache.views[rows], wanted.views[rows])
    np.testing.assert_array_equal(cache.dense[rows], wanted.dense[rows])
    assert sorted(path.name for path in (shards / "cache").iterdir()) == [f"photos-{i:06}" for i in range(4)]


class Numbers(TrainingSet):
    """A training set that gives the photos' numbers in place of their pixels."""

    def __getitem__(self, step):
        return self.schedule[step][1][self.mine]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_photo_comes_twice_in_an_epoch(shards, world, workers):
    photos, cache = opened(shards)
    order = ShardOrder(cache, CONFIG)
    assert len(order) == 22 and order.per_epoch == 3 and len(order.held_out) == 2  # a tenth of 24
    epochs = []
    for epoch in range(2):
        seen = []
        for rank in range(world):
            data = Numbers(photos, cache, order, CONFIG, 6, 8, rank=rank, world=world)
            steps = range(epoch * order.per_epoch, (epoch + 1) * order.per_epoch)
            for rows in DataLoader(data, batch_size=None, sampler=steps, num_workers=workers):
                assert len(rows) == 6 // world
                seen += rows.tolist()
        assert len(seen) == len(set(seen)) == 18 and not set(seen) & set(order.held_out.tolist())
        epochs.append(seen)
    assert epochs[0] != epochs[1]


def plain_order(counts, held, seed, window, epoch):
    """The epoch's photos as the module's text says it, all in memory."""
    starts = np.concatenate([[0], np.cumsum(counts)])
    shards = np.random.default_rng([seed, 7, epoch]).permutation(len(counts))
    result = []
    for number, first in enumerate(range(0, len(shards), window)):
        rows = [
            row
            for shard in shards[first : first + window]
            for row in range(starts[shard], starts[shard + 1])
            if row not in held
        ]
        result += np.random.default_rng([seed, 8, epoch, number]).permutation(rows).astype(int).tolist()
    return result


@pytest.mark.parametrize("window", [1, 3, 4, 50])
def test_the_order_is_that_of_a_plain_shuffle_of_windows_whatever_step_is_asked_first(shards, window):
    photos, cache = opened(shards)
    config = replace(CONFIG, batch=5, shuffle_shards=window)
    order = ShardOrder(cache, config)
    for step in (7, 0, 3, 4, 1):
        epoch, place = divmod(step, order.per_epoch)
        wanted = plain_order(photos.counts, set(order.held_out.tolist()), config.seed, window, epoch)
        assert order[step][1].tolist() == wanted[place * 5 : place * 5 + 5]


def test_memory_does_not_grow_with_the_shards(monkeypatch):
    """Ten million photos: their numbers alone would be 80 MB."""
    count, each = 10_000, 1000
    photos = ShardSet(Path("x"), [Shard(Path(f"{i}.tar"), 1, 1, each) for i in range(count)], 3)
    cache = ShardCache(photos, Facts({}, 3), VIEWS, "x")
    cache.readable = photos.counts.copy()
    monkeypatch.setattr(cache, "open", lambda shard: type("Whole", (), {"readable": lambda _: np.arange(each)})())
    tracemalloc.start()
    order = ShardOrder(cache, replace(CONFIG, batch=1024, val_photos=10))
    rows = [order[step][1] for step in (0, 5000, order.per_epoch)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(order) == count * each - 10 and len(np.unique(rows[0])) == 1024
    assert peak < 8e6


def sharded(inputs, shards, run=None):
    return replace(inputs, photos=str(shards), cache=str(shards / "cache"), run=run or inputs.run)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stopped_within_an_epoch_equals_the_uninterrupted_one(teacher_config, inputs, shards, workers):
    config = replace(paper_config(teacher_config), batch=4, epochs=2.0, shuffle_shards=2)
    inputs = sharded(inputs, shards)
    whole = run(config, inputs, "whole")
    assert len(read_curve(whole.with_name("curve.csv"))) == 10  # two epochs of 22 // 4
    run(config, inputs, "halves", until=7, workers=workers)
    halves = run(config, inputs, "halves", resume=True, workers=workers)
    assert_equal(weights(whole), weights(halves))


def test_two_processes_of_torchrun_equal_one(teacher_config, inputs, shards, tmp_path):
    config = replace(paper_config(teacher_config, gumbel=False), batch=4, micro_batch=1, epochs=1.0, adam_eps=1e-3)
    pair = sharded(inputs, shards, str(tmp_path / "pair"))
    (tmp_path / "settings.json").write_text(json.dumps({"config": config.to_dict(), "inputs": vars(pair)}))
    (tmp_path / "pair.py").write_text(
        f"import json, sys, torch\nsys.path.append({str(ROOT)!r})\n"
        "from zeroseg.training.distill import Inputs, distill\n"
        "from zeroseg.training.processes import join, leave\n"
        "from zeroseg.training.recipes import TrainConfig\n"
        "torch.set_num_threads(1)\n"
        f"settings = json.load(open({str(tmp_path / 'settings.json')!r}))\n"
        "distill(TrainConfig.from_dict(settings['config']), Inputs(**settings['inputs']), join('cpu'), workers=1,\n"
        "        progress=False)\nleave()\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, tmp_path / "pair.py"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    alone = run(config, sharded(inputs, shards), "alone")  # reads what the two cached, each its shards
    got = weights(tmp_path / "pair" / "model.pt")
    for name, value in weights(alone).items():
        torch.testing.assert_close(got[name], value, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_a_changed_shard_is_noticed(teacher_config, inputs, shards, capsys):
    photos, cache = opened(shards)
    os.utime(shards / "photos-000001.tar", (5, 5))
    fresh, _ = opened(shards)
    assert fresh.fingerprint != photos.fingerprint and "differ from those of views-" in capsys.readouterr().err
    assert len(list((shards / "cache" / "photos-000001").iterdir())) == 2
    assert len(list((shards / "cache" / "photos-000000").iterdir())) == 1
    later = find_shards(shards, 1)
    os.utime(shards / "photos-000001.tar", (6, 6))
    with pytest.raises(ZerosegError, match=r"photos-000001.tar: changed since this run began"):
        later.read(8)


def test_a_damaged_row_is_noticed_when_it_is_read(shards):
    photos, cache = opened(shards)
    cache.open(2)
    [folder] = (shards / "cache" / "photos-000002").iterdir()
    data = np.memmap(folder / "dense.bin", "uint8", "r+")
    data[-1] ^= 1
    data.flush()
    with pytest.raises(ZerosegError, match="row 6 is damaged"):  # by the sample that opening compares
        opened(shards)
    cache.views[np.arange(14, 20)]  # in a cache that is open the others are read
    with pytest.raises(ZerosegError, match=f"{folder}: row 6 is damaged"):
        cache.views[np.array([20])]


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (lambda root: (root / "loose.jpg").write_bytes(b""), {}, "both shards and photos such as loose.jpg"),
        (lambda root: (root / "photos-000000.tar").write_bytes(b"no tar"), {}, "cannot be read as an uncompressed tar"),
        (lambda root: None, {"batch": 40}, "40 photos a step, but the shards have 22"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(teacher_config, inputs, shards, spoil, changes, message):
    spoil(shards)
    with pytest.raises(ZerosegError, match=message) as error:
        run(replace(paper_config(teacher_config), **changes), sharded(inputs, shards), "wrong")
    assert "\n" not in str(error.value)


def test_cached_stem_features_are_refused(dense_config, inputs, shards):
    with pytest.raises(ZerosegError, match="not for shards; add --stem-views 0"):
        run(dense_config, sharded(inputs, shards), "wrong")
