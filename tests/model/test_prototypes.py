"""The prototypes readout: where it starts, what it can say, how it scores."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from zeroseg.config import PRESETS
from zeroseg.model.readout import StemContext
from zeroseg.model.stem import StemFeatures
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.segment.scores import embedding_scores


@pytest.fixture(scope="module")
def model() -> ZeroSeg:
    torch.manual_seed(0)
    model = ZeroSeg(PRESETS["tiny"]).eval()
    vectors = F.normalize(torch.randn(1001, 512), dim=1)
    model.readout.set_vectors(vectors, 0.1 * torch.randn(512))
    return model


def context(model, h=4, w=6):
    fine = torch.randn(2, model.stem.fine_channels, h, w)
    coarse = torch.randn(2, model.stem.coarse_channels, h // 2, w // 2)
    return StemContext(StemFeatures(fine, coarse), model.stem, None)


def test_starts_as_the_stems_own_classifier(model):
    stem = context(model)
    tokens = torch.randn(2, 3, 192)
    hard = F.one_hot(torch.arange(24) // 8, 3).float().expand(2, -1, -1)  # 8 places each, in reading order
    with torch.no_grad():
        embeddings = model.readout(tokens, hard, stem)
        features = model.stem.head_features(stem.features.coarse)  # (2, 1280, 2, 3)
        cover = F.avg_pool2d(hard.transpose(1, 2).unflatten(2, (4, 6)), 2)  # share of each coarse place per segment
        for b in range(2):
            photo = model.stem.classifier(features[b].flatten(1).mean(1))
            for k in range(3):
                share = cover[b, k].flatten() / cover[b, k].sum()
                own = model.stem.classifier(features[b].flatten(1) @ share)
                logits = F.pad(own + 2 * photo, (0, 1))
                expected = F.normalize(logits.softmax(0) @ model.readout.vectors, dim=0)
                torch.testing.assert_close(F.normalize(embeddings[b, k], dim=0), expected, atol=1e-4, rtol=1e-3)


def test_while_masking_a_segment_is_read_from_its_kept_places(model):
    stem = context(model)
    keep = torch.stack([torch.randperm(24)[:9] for _ in range(2)])
    tokens, kept = torch.randn(2, 3, 192), torch.rand(2, 9, 3).softmax(-1).requires_grad_()
    got = model.readout(tokens, kept, stem._replace(keep=keep))
    features = model.stem.head_features(stem.features.coarse).flatten(2)  # (2, 1280, 6)
    for b in range(2):
        share = torch.zeros(6, 3)  # of each coarse place, from the fine places kept inside it
        for place, row in zip(keep[b].tolist(), kept[b], strict=True):
            y, x = divmod(place, 6)
            share[y // 2 * 3 + x // 2] += row
        own = model.stem.classifier((features[b] @ (share / share.sum(0))).T)
        logits = F.pad(own + 2 * model.stem.classifier(features[b].mean(1)), (0, 1))
        expected = F.normalize(logits.softmax(1) @ model.readout.vectors, dim=1)
        torch.testing.assert_close(F.normalize(got[b], dim=1), expected, atol=1e-4, rtol=1e-3)
    got.sum().backward()
    assert kept.grad.abs().amin(dim=(1, 2)).gt(0).all()


def test_length_is_between_0_and_1(model):
    with torch.no_grad():
        soft = torch.rand(2, 24, 8).softmax(-1)
        length = model.readout(torch.randn(2, 8, 192) * 10, soft, context(model)).norm(dim=-1)
    assert (length > 0).all() and (length <= 1 + 1e-6).all()


def test_score_is_measured_from_the_centre(model):
    with torch.no_grad():
        output = model(torch.randn(1, 3, 64, 96))
    labels = F.normalize(torch.randn(5, 512), dim=1)
    scoring = model.scoring()
    torch.testing.assert_close(torch.from_numpy(scoring.centre), model.readout.centre, atol=0, rtol=0)
    directions = F.normalize(labels - model.readout.centre, dim=1)
    for embeddings in (output.segment_embeddings[0], output.image_embedding):
        scores = torch.from_numpy(embedding_scores(embeddings.numpy(), labels.numpy(), scoring))
        torch.testing.assert_close(scores, embeddings @ directions.T, atol=1e-5, rtol=1e-4)
        assert scores.abs().max() <= 1 + 1e-5


def test_refuses_encoders_without_classes():
    with pytest.raises(ValueError, match="prototypes need a hybrid encoder"):
        ZeroSeg(replace(PRESETS["small"], readout="prototypes"))
    with pytest.raises(ValueError, match="at least the stem's 1000"):
        ZeroSeg(replace(PRESETS["tiny"], prototypes=10))
