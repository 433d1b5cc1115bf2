"""Beginning from a narrower student: its names and segments go on, new ones start near them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from zeroseg.config import PRESETS
from zeroseg.errors import ZerosegError
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training.warm_start import NEAR, load_initial, near_classifier


def student(seed: int, **fields) -> ZeroSeg:
    torch.manual_seed(seed)
    model = ZeroSeg(replace(PRESETS["tiny"], **fields)).eval()
    vectors = F.normalize(torch.randn(model.config.prototypes, 512, generator=torch.Generator().manual_seed(7)), dim=1)
    model.readout.set_vectors(vectors, torch.zeros(512))
    torch.nn.init.normal_(model.readout.correct.weight, std=0.01)
    return model


IMAGE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_equal_students_are_copied():
    old, new = student(0), student(1)
    load_initial(new, old.state_dict(), "old.pt", 0)
    torch.testing.assert_close(new(IMAGE).segment_embeddings, old(IMAGE).segment_embeddings)


@torch.no_grad()
def test_a_new_name_begins_as_the_mean_of_the_classes_near_it():
    rng = torch.Generator().manual_seed(0)
    names, classes = (F.normalize(torch.randn(n, 6, generator=rng), dim=1) for n in (3, 5))
    weight, bias = torch.randn(5, 4, generator=rng), torch.randn(5, generator=rng)
    got_weight, got_bias = near_classifier(names, classes, weight, bias)
    for n in range(3):
        share = torch.tensor([(names[n] @ c / NEAR).exp() for c in classes])
        share = share / share.sum()
        torch.testing.assert_close(got_weight[n], sum(s * w for s, w in zip(share, weight)), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(got_bias[n], share @ bias, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_more_names_leave_the_old_ones_as_they_were():
    old, new = student(0), student(1, prototypes=1010, prototype_classifier=True)
    load_initial(new, old.state_dict(), "old.pt", 0)
    output = new(IMAGE)
    tokens, old_tokens = output.segment_tokens, old(IMAGE).segment_tokens
    torch.testing.assert_close(tokens, old_tokens)
    hidden = F.gelu(new.readout.hidden(tokens))
    torch.testing.assert_close(
        new.readout.correct(hidden)[..., :1001], old.readout.correct(F.gelu(old.readout.hidden(old_tokens)))
    )
    assert not new.readout.correct(hidden)[..., 1001:].any()


@torch.no_grad()
def test_a_learned_classifier_says_its_names():
    model = student(0, prototypes=1003, prototype_classifier=True)
    model.readout.classifier.weight.zero_()
    model.readout.classifier.bias.copy_(torch.tensor([0.0, 1000.0, 0.0]))  # the name after the classes and one more
    [embeddings] = model(IMAGE).segment_embeddings
    wanted = model.readout.vectors[1001].expand_as(embeddings)
    torch.testing.assert_close(F.normalize(embeddings, dim=1), wanted, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_copies_of_segments_say_what_their_source_said(monkeypatch):
    """Both mixing MLPs of the last stage: copies get the source's answer, and a copied token counts once in all."""
    monkeypatch.setattr("zeroseg.training.warm_start.APART", 0.0)
    old, new = student(0), student(1, group_tokens=(32, 16), output_groups=(32, 16))
    load_initial(new, old.state_dict(), "old.pt", 0)
    one, two = old.head.stages[-1], new.head.stages[-1]
    tokens, before = torch.randn(1, 8, 192), torch.randn(1, 32, 192)
    torch.testing.assert_close(two.group_token, one.group_token.repeat(1, 2, 1))
    torch.testing.assert_close(two.grouping.mix(tokens.repeat(1, 2, 1)), one.grouping.mix(tokens).repeat(1, 2, 1))
    torch.testing.assert_close(two.mix_before(before), one.mix_before(before).repeat(1, 2, 1))


@torch.no_grad()
def test_copies_of_segments_are_told_apart():
    old, new = student(0), student(1, group_tokens=(32, 12), output_groups=(32, 12))
    load_initial(new, old.state_dict(), "old.pt", 0)
    maps = new(IMAGE).soft_map
    assert (maps[..., :4] - maps[..., 8:]).abs().max() > 1e-4


def test_another_model_is_refused():
    with pytest.raises(ZerosegError, match="old.pt is a different model"):
        load_initial(student(1, head_mlp_ratio=4.0), student(0).state_dict(), "old.pt", 0)
