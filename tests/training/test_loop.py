import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from zeroseg.training import precision
from zeroseg.training.loop import Average, Plan, build_optimizer, learning_rate, plan_steps
from zeroseg.training.precision import choose_precision
from zeroseg.training.recipes import RECIPES, TrainConfig

CPU = torch.device("cpu")


def test_learning_rate_is_warm_up_then_half_a_cosine():
    config = replace(TrainConfig(), lr=1.0, lr_per_photos=0, min_lr=0.1)
    plan = Plan(steps=110, per_epoch=10, warmup=10)
    assert [learning_rate(config, plan, step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    for step in (10, 35, 60, 109):
        wanted = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        assert learning_rate(config, plan, step) == pytest.approx(wanted)


@pytest.mark.parametrize(("photos", "plan"), [(1_281_167, Plan(24_960, 312, 6_240)), (100, Plan(80, 1, 20))])
def test_the_paper_s_steps(photos, plan):
    assert plan_steps(RECIPES["paper"], photos) == plan


def test_vectors_do_not_decay_and_frozen_weights_are_left_out():
    net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    net[2].requires_grad_(False)
    groups = build_optimizer(net, replace(TrainConfig(), weight_decay=0.3)).param_groups
    got = [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in groups]
    assert got == [(0.3, [2]), (0, [1, 1, 1])]


def test_average_follows_the_formula():
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average, wanted = Average(net, 0.9), 0.0
    for step in range(200):
        nn.init.constant_(net.weight, step)
        average.update(net, step)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * step
    assert average.values["weight"].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("bf16_ms", "chosen"), [(0.1, "bf16"), (0.95, "fp32"), (70.0, "fp32")])
def test_bf16_is_chosen_on_a_cpu_only_where_it_is_faster(monkeypatch, bf16_ms, chosen):
    monkeypatch.setattr(precision, "_matmul_ms", lambda dtype: bf16_ms if dtype is torch.bfloat16 else 1.0)
    assert choose_precision("auto", CPU)[0] == chosen
    assert choose_precision("bf16", CPU) == ("bf16", "asked for")
    with pytest.raises(ValueError, match="expected fp32, bf16 or auto"):
        choose_precision("fp8", CPU)
