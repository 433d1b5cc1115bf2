"""The assignment's properties: one-hot forward, soft gradient, n / (n + 1) weights, maps that sum to 1."""

from dataclasses import replace

import pytest
import torch

from zeroseg.config import PRESETS
from zeroseg.model.grouping import GroupingBlock, assign_to_groups, pooling_weights
from zeroseg.model.head import SegmentationHead, compose_maps

SMALL = replace(
    PRESETS["tiny"], width=24, heads=3, decoder_width=24, head_width=24, head_heads=3, head_depths=(1, 1, 1),
    group_tokens=(6, 4), output_groups=(6, 4), assignment="dot", gumbel=True, aggregation="hard",
)  # fmt: skip


@pytest.fixture
def head():
    """A head whose random weights spread the tokens over groups."""
    head = SegmentationHead(SMALL).eval()
    for value in head.parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=value.shape[-1] ** -0.5)
    return head


@pytest.mark.parametrize("noise", [False, True])
def test_hard_map_is_exactly_one_hot(noise):
    hard, soft = assign_to_groups(torch.randn(2, 50, 7).requires_grad_(), noise=noise)
    assert ((hard == 0) | (hard == 1)).all() and (hard.sum(-1) == 1).all()
    torch.testing.assert_close(soft.sum(-1), torch.ones(2, 50))


def test_hard_map_without_noise_is_the_argmax():
    logits = torch.randn(2, 50, 7)
    assert torch.equal(assign_to_groups(logits, noise=False).hard.argmax(-1), logits.argmax(-1))


def test_hard_map_has_one_group_per_token_on_ties():
    assert torch.equal(assign_to_groups(torch.zeros(1, 3, 4), noise=False).hard.sum(-1), torch.ones(1, 3))


def test_straight_through_gradient_is_that_of_the_softmax():
    logits, upstream = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    hard_in, soft_in = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    assign_to_groups(hard_in, noise=False).hard.backward(upstream)
    soft_in.softmax(-1).backward(upstream)
    torch.testing.assert_close(hard_in.grad, soft_in.grad)


def test_straight_through_gradient_with_noise_is_that_of_the_noisy_softmax():
    logits, upstream, tau = torch.randn(2, 9, 4), torch.randn(2, 9, 4), 0.7
    hard_in, soft_in = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    torch.manual_seed(1)
    assign_to_groups(hard_in, noise=True, tau=tau).hard.backward(upstream)
    torch.manual_seed(1)
    gumbel = -torch.empty(2, 9, 4).exponential_().log()
    ((soft_in + gumbel) / tau).softmax(-1).backward(upstream)
    torch.testing.assert_close(hard_in.grad, soft_in.grad)


def test_noise_samples_groups_by_their_probability():
    probability = torch.tensor([0.6, 0.3, 0.1])
    hard, _ = assign_to_groups(probability.log().expand(1, 40000, 3), noise=True)
    torch.testing.assert_close(hard.mean(dim=(0, 1)), probability, atol=0.015, rtol=0)


def test_group_of_n_tokens_weighs_n_over_n_plus_1():
    group_L = torch.tensor([0, 0, 0, 1, 1, 3])
    weight_BSL = pooling_weights(torch.nn.functional.one_hot(group_L, 4)[None].float(), eps=1.0)
    torch.testing.assert_close(weight_BSL.sum(-1)[0], torch.tensor([3 / 4, 2 / 3, 0.0, 1 / 2]))


def test_maps_product_has_rows_that_sum_to_one(head):
    with torch.no_grad():
        output = head(torch.randn(2, 30, 24))
    torch.testing.assert_close(output.soft_map.sum(-1), torch.ones(2, 30))
    torch.testing.assert_close(output.soft_map, output.stage_maps[0].soft @ output.stage_maps[1].soft)
    assert torch.equal(compose_maps([output.stage_maps[0].soft]), output.stage_maps[0].soft)


def test_maps_stay_float32_under_autocast(head):
    x = torch.randn(2, 30, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = head(x)
    for map_BLS in (output.soft_map, *(m.soft for m in output.stage_maps)):
        sum_BL = map_BLS.sum(-1)
        assert sum_BL.dtype == torch.float32
        torch.testing.assert_close(sum_BL, torch.ones_like(sum_BL))


def test_permuting_patches_permutes_maps(head):
    x, order = torch.randn(2, 30, 24), torch.randperm(30)
    with torch.no_grad():
        plain, permuted = head(x), head(x[:, order])
    torch.testing.assert_close(permuted.soft_map, plain.soft_map[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(permuted.tokens, plain.tokens, atol=1e-4, rtol=1e-4)


def test_evaluation_draws_no_noise_and_training_does(head):
    x = torch.randn(1, 30, 24)
    with torch.no_grad():
        assert torch.equal(head(x).tokens, head(x).tokens)
        head.train()
        assert not torch.equal(head(x).tokens, head(x).tokens)


def test_gumbel_off_makes_training_deterministic():
    head = SegmentationHead(replace(SMALL, gumbel=False)).train()
    x = torch.randn(1, 30, 24)
    with torch.no_grad():
        assert torch.equal(head(x).tokens, head(x).tokens)


def test_cosine_assignment_equals_its_formula():
    block = GroupingBlock(replace(SMALL, assignment="cosine", assign_scale=7.0), tokens=6, groups=6).eval()
    x, group = torch.randn(1, 10, 24), torch.randn(1, 6, 24)
    with torch.no_grad():
        _, maps = block.assign(group, x)
        q, k = block.assign.q(group), block.assign.k(x)
        cosine = torch.nn.functional.cosine_similarity(k[:, :, None], q[:, None], dim=-1)
    torch.testing.assert_close(maps.soft, (7 * cosine).softmax(-1), atol=1e-5, rtol=1e-4)
    assert block.assign.log_scale.requires_grad


def test_soft_aggregation_pools_by_the_soft_map():
    block = GroupingBlock(replace(SMALL, aggregation="soft"), tokens=6, groups=6).eval()
    x, group = torch.randn(1, 10, 24), torch.randn(1, 6, 24)
    with torch.no_grad():
        pooled, maps = block.assign(group, x)
        weight = maps.soft[0] / (maps.soft[0].sum(0) + 1)
        expected = block.assign.proj(weight.T @ block.assign.v(x[0]))
    torch.testing.assert_close(pooled[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("std, told_apart", [(0.0, False), (0.02, True)])
def test_later_group_tokens_start_at_zero_unless_a_spread_is_configured(std, told_apart):
    torch.manual_seed(0)
    tokens = SegmentationHead(replace(SMALL, later_token_std=std)).stages[1].group_token[0]
    assert bool(tokens.any()) == told_apart
    if told_apart:
        assert torch.pdist(tokens).min() > 0.02 and 0.01 < tokens.std() < 0.03
