"""The paper's losses against brute force, and the dense losses against their formulas written out."""

import pytest
import torch

from zeroseg.training.losses import (
    Reductions,
    group_variance_loss,
    multi_scale_loss,
    place_loss,
    segment_matching_loss,
    segment_name_loss,
)

SUMS = Reductions("sum", "sum", "sum")


@pytest.fixture
def views():
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def segments():
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def dense():
    """A soft map (2, 7, 3) whose rows sum to 1 and targets (2, 7, 5) far from the origin."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 7, 3, generator=generator).softmax(2), torch.randn(2, 7, 5, generator=generator) + 4


def brute_matching(segments, views, first_view):
    total = 0.0
    for g_KD, v_VD in zip(segments, views):
        for g_D in g_KD:
            total += min(float((g_D - v_D).abs().sum()) for v_D in v_VD[first_view:])
    return total / len(segments)


def test_multi_scale_equals_written_out_sum(views, segments):
    z = segments[:, 0]
    expected = sum(float((z[b] - views[b, j]).abs().sum()) for b in range(3) for j in range(6)) / 3
    assert multi_scale_loss(z, views, SUMS).item() == pytest.approx(expected, rel=1e-6)
    assert multi_scale_loss(z, views).item() == pytest.approx(expected / (6 * 5), rel=1e-6)


def test_multi_scale_minimiser_is_the_coordinate_median():
    views = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(4))
    z = torch.zeros(1, 5, requires_grad=True)
    optimizer = torch.optim.SGD([z], lr=0.05)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 600)
        optimizer.zero_grad()
        multi_scale_loss(z, views, SUMS).backward()
        optimizer.step()
    torch.testing.assert_close(z.detach()[0], views[0].median(dim=0).values, atol=2e-2, rtol=0)


def test_matching_equals_brute_force(views, segments):
    expected = brute_matching(segments, views, first_view=1)
    assert segment_matching_loss(segments, views, SUMS).item() == pytest.approx(expected, rel=1e-6)
    assert segment_matching_loss(segments, views).item() == pytest.approx(expected / (4 * 5), rel=1e-6)


def test_matching_excludes_the_whole_image(views, segments):
    before = segment_matching_loss(segments, views)
    views[:, 0] = segments[:, 0]  # a perfect match, were it allowed
    assert segment_matching_loss(segments, views) == before
    assert brute_matching(segments, views, first_view=0) < brute_matching(segments, views, first_view=1)


def test_matching_gradient_reaches_only_the_nearest_view(views, segments):
    views.requires_grad_(), segments.requires_grad_()
    segment_matching_loss(segments[:, :1], views, SUMS).backward()
    with torch.no_grad():
        nearest_B = 1 + (segments[:, :1] - views[:, 1:]).abs().sum(2).argmin(1)
    touched_BV = views.grad.abs().sum(2) > 0
    assert torch.equal(touched_BV, torch.nn.functional.one_hot(nearest_B, 6).bool())
    assert (segments.grad[:, 0].abs() > 0).all() and not segments.grad[:, 1:].any()


def written_out_variance(map_LK, target_LD):
    centre_KD = (map_LK.T @ target_LD) / map_LK.sum(0)[:, None]
    within = sum(map_LK[l, k] * (target_LD[l] - centre_KD[k]).square().sum() for l in range(7) for k in range(3))
    return within, (target_LD - target_LD.mean(0)).square().sum()


@pytest.mark.parametrize("per_image", [True, False])
def test_group_variance_equals_written_out_sums(dense, per_image):
    parts = [written_out_variance(m, t) for m, t in zip(*dense)]
    if per_image:
        expected = sum(within / total for within, total in parts) / 2
    else:
        expected = sum(w for w, _ in parts) / sum(t for _, t in parts)
    torch.testing.assert_close(group_variance_loss(*dense, per_image=per_image), expected, atol=1e-6, rtol=1e-5)


def test_group_variance_is_zero_for_uniform_groups_and_one_for_one_group(dense):
    _, target = dense
    group_L = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    one_hot = torch.nn.functional.one_hot(group_L, 3).float().expand(2, -1, -1)
    uniform = target[:, [0, 0, 2, 2, 4, 4, 4]]
    assert group_variance_loss(one_hot, uniform).item() == pytest.approx(0, abs=1e-6)
    assert group_variance_loss(torch.ones(2, 7, 1), target).item() == pytest.approx(1, abs=1e-6)


def test_group_variance_of_constant_targets_is_finite():
    loss = group_variance_loss(torch.full((1, 4, 2), 0.5, requires_grad=True), torch.ones(1, 4, 3))
    loss.backward()
    assert loss.item() == 0


def test_segment_name_equals_written_out_sum(dense):
    soft_map, target = dense
    embeddings = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(5))
    expected = 0.0
    for m, t, e in zip(soft_map, target, embeddings):
        for k in range(3):
            centre = (m[:, k, None] * t).sum(0) / m[:, k].sum()
            expected += float(m[:, k].sum() / 7 * (e[k] - centre).square().sum()) / 2
    expected /= float(target.square().sum(2).mean())
    assert segment_name_loss(embeddings, soft_map, target).item() == pytest.approx(expected, rel=1e-5)


def test_segment_name_gives_the_map_no_gradient(dense):
    soft_map, target = dense
    soft_map.requires_grad_()
    embeddings = torch.zeros(2, 3, 5, requires_grad=True)
    segment_name_loss(embeddings, soft_map, target).backward()
    assert soft_map.grad is None and embeddings.grad.abs().sum() > 0


def test_place_loss_is_relative_to_the_targets(dense):
    _, target = dense
    assert place_loss(target, target) == 0
    assert place_loss(torch.zeros_like(target), target).item() == pytest.approx(1)
    assert place_loss(target * 10, target * 5).item() == pytest.approx(1)


def test_losses_stay_float32_under_autocast(dense):
    soft_map, target = dense
    expected = group_variance_loss(soft_map, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(group_variance_loss(soft_map, target), expected)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: multi_scale_loss(torch.zeros(2, 4), torch.zeros(2, 3, 5)), r"z: expected \(2, 5\), got \(2, 4\)"),
        (lambda: segment_matching_loss(torch.zeros(2, 4, 5), torch.zeros(2, 1, 5)), "at least one local view"),
        (lambda: group_variance_loss(torch.zeros(2, 6, 3), torch.zeros(2, 7, 5)), r"soft_map: expected \(2, 7, K\)"),
        (lambda: place_loss(torch.zeros(2, 6, 5), torch.zeros(2, 7, 5)), r"pred: expected \(2, 7, 5\)"),
        (lambda: Reductions(dims="max"), "dims: expected mean or sum, got 'max'"),
    ],
)
def test_losses_refuse_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
