"""The fused assignment computes what the plain one does; on a CPU nothing changes at all."""

from dataclasses import replace

import pytest
import torch

from zeroseg.config import PRESETS
from zeroseg.model.fused_assignment import FusedAssign, use_fused_assignment
from zeroseg.model.grouping import Assign, GroupingBlock


def block(assignment="cosine", aggregation="hard"):
    config = replace(
        PRESETS["tiny"], head_width=24, head_heads=3, assignment=assignment, aggregation=aggregation, gumbel=True
    )
    return GroupingBlock(config, 6, 5).eval()


@pytest.mark.parametrize("assignment", ["dot", "cosine"])
@pytest.mark.parametrize("aggregation", ["hard", "soft"])
def test_equals_the_plain_assignment(assignment, aggregation):
    plain = block(assignment, aggregation).assign
    groups, tokens = torch.randn(2, 5, 24), torch.randn(2, 19, 24)
    fused = FusedAssign(plain.config).eval()
    fused.load_state_dict(plain.state_dict())
    grads = []
    for result in (plain(groups, tokens), fused.forward_fused(groups, tokens, impl="reference")):
        grads.append(
            torch.autograd.grad(
                (result[0].square().sum() + (result[1].soft * result[1].hard).sum()),
                (plain if not grads else fused).k.weight,
            )
        )
        grads[-1] += (result[0], *result[1])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_noise_follows_torchs_seed():
    fused = FusedAssign(block().assign.config).train()
    groups, tokens = torch.randn(2, 5, 24), torch.randn(2, 200, 24)
    choices = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        choices.append(fused.forward_fused(groups, tokens, impl="reference")[1].hard)
    assert torch.equal(choices[0], choices[1]) and not torch.equal(choices[0], choices[2])


def test_switching_keeps_parameters_and_results_on_a_cpu():
    model = block()
    groups, tokens = torch.randn(2, 6, 24), torch.randn(2, 19, 24)
    before, state = model(tokens, groups), dict(model.named_parameters())
    use_fused_assignment(model)
    assert type(model.assign) is FusedAssign and not model.assign.training
    assert all(value is state.pop(name) for name, value in model.named_parameters()) and not state
    after = model(tokens, groups)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1].hard, after[1].hard)
    use_fused_assignment(model, False)
    assert type(model.assign) is Assign
