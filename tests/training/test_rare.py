"""Photos of rare names come more often, by LVIS's repeat factors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zeroseg.errors import ZerosegError
from zeroseg.training import distill as distilling
from zeroseg.training.distill import distill
from zeroseg.training.processes import Processes
from zeroseg.training.rare import MOST, names_present, repeat_rare
from zeroseg.training.teachers.combine import NameVectors


def test_a_photo_is_repeated_by_its_rarest_name():
    rows = np.arange(1000) * 2
    present = np.zeros((1000, 3), bool)
    present[:500, 0] = True  # common: once
    present[100:110, 1] = True  # 1 %: sqrt(0.09 / 0.01) = 3 times
    present[0, 2] = True  # 0.1 %: sqrt(90) times, but MOST at most
    times = np.bincount(repeat_rare(rows, present, 0.09, 0) // 2, minlength=1000)
    assert times[0] == MOST and (times[100:110] == 3).all()
    assert (np.delete(times, [0, *range(100, 110)]) == 1).all()


def test_fractions_of_a_repeat_are_drawn():
    present = np.zeros((40000, 1), bool)
    present[:10000] = True  # 25 %: sqrt(0.5625 / 0.25) = 1.5 times
    times = np.bincount(repeat_rare(np.arange(40000), present, 0.5625, 3))
    assert set(times[:10000]) == {1, 2} and times[:10000].mean() == pytest.approx(1.5, abs=0.02)
    assert (times[10000:] == 1).all()


def test_a_name_is_present_where_one_cell_lies_along_it():
    names = torch.eye(4)[:2]
    dense = np.zeros((3, 2, 2, 4), np.float16)
    dense[0, 1, 0] = [0.45, 0, 0.9, 0]
    dense[2, 0, 1] = [0.3, 0.8, 0, 0]
    assert names_present(dense, np.array([2, 0]), names).tolist() == [[False, True], [True, False]]


def test_training_repeats_and_counts_photos_once(dense_config, inputs, monkeypatch, capsys):
    ones = torch.nn.functional.normalize(torch.ones(1, 16), dim=1)
    monkeypatch.setattr(distilling, "names_present", lambda dense, rows, names: np.eye(len(rows), 2, dtype=bool))
    monkeypatch.setattr(distilling, "name_vectors", lambda space, centre: NameVectors(ones, ones))
    alone = Processes(0, 1, torch.device("cpu"))
    config = replace(dense_config, repeat_share=0.9, stem_views=0)
    path = distill(config, inputs, alone, progress=False)
    said = capsys.readouterr()
    assert "photos with rare names are repeated: " in said.out + said.err
    per_epoch, photos = (said.out + said.err).split("repeated: ")[1].split("\n")[0].split(" per epoch, of ")
    assert int(per_epoch) > int(photos)
    assert torch.load(path, weights_only=True)["sidecar"]["card"]["photos"] == int(photos)
    with pytest.raises(ZerosegError, match="repeat_share: expected a folder of photos"):
        distill(replace(config, stem_views=1), inputs, alone, progress=False)
